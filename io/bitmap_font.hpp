// Text in pictures: a font of 5 x 8 dots for A-Z a-z 0-9 . % - _ : and space; other characters show as a box.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "io/png.hpp"

namespace semivox::io {

using Colour = std::array<uint8_t, 3>;

constexpr int64_t kGlyphWidth = 6;   ///< dots from one character to the next
constexpr int64_t kGlyphHeight = 9;  ///< dots from one line to the next

/// Draws one line with its upper left corner at (x, y), each dot `scale` x `scale` pixels, into an RGB
/// picture. What passes the picture's edges is cut off.
void draw_text(Picture& picture, int64_t x, int64_t y, int64_t scale, const std::string& line,
               const Colour& colour);

/// Fills a rectangle of an RGB picture; what passes its edges is cut off.
void fill_rectangle(Picture& picture, int64_t x, int64_t y, int64_t width, int64_t height,
                    const Colour& colour);

}  // namespace semivox::io

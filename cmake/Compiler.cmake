# The language, the flags of our own code (system headers are exempt from warnings), and what C++ compilers will do.
# The language flag is ours and not CMAKE_CXX_STANDARD, which CMake before 3.26 would hand on to nvcc as a level it does not know.
set(SEMIVOX_LANGUAGE_FLAG -std=c++20)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 11) OR
   (CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15))
  message(FATAL_ERROR "semivox needs g++ 11 or clang++ 15 or newer for C++20; found ${CMAKE_CXX_COMPILER_ID} "
                      "${CMAKE_CXX_COMPILER_VERSION} at ${CMAKE_CXX_COMPILER}. Choose another with CXX=...")
endif()

find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Threads REQUIRED)

# Floating point keeps its order and its NaNs (no -ffast-math): results are reproducible and bad values are seen.
set(SEMIVOX_HOST_FLAGS -fno-math-errno -fno-trapping-math)
if(SEMIVOX_NATIVE)
  list(APPEND SEMIVOX_HOST_FLAGS -march=native)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

# Warnings are errors, except those that depend on what the optimiser of this compiler version happens to inline.
set(SEMIVOX_WARNINGS -Wall -Wextra -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND SEMIVOX_WARNINGS -Wno-error=maybe-uninitialized -Wno-error=array-bounds -Wno-error=stringop-overflow)
endif()

if(SEMIVOX_SANITIZE)
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -g1")  # lines for the reports, nothing more: half the time to compile
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

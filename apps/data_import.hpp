// `semivox data import-...`: the field's own files and layouts brought into data set folders.
#pragma once

namespace CLI {
class App;
}

namespace semivox {

/// Adds the import commands to `semivox data`.
void add_import_commands(CLI::App& data);

}  // namespace semivox

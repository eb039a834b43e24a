// `semivox methods`: what can be trained, with every option, its default and its meaning.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.hpp"
#include "methods/method.hpp"

namespace semivox {

namespace {

/// What an option can be: "ent, mu or perr", nothing for numbers and free text.
std::string choices(const OptionInfo& option) {
  std::string list;
  for (size_t i = 0; i < option.words.size(); ++i)
    list += (i == 0 ? "" : i + 1 == option.words.size() ? " or " : ", ") + option.words[i];
  return list;
}

}  // namespace

void add_methods_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("methods", "List the methods and networks, with options and defaults");
  const auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "print JSON");
  command->callback([as_json] {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const MethodInfo& info : registered_methods()) {
      OptionReader reader;
      info.make(reader);
      nlohmann::ordered_json options = nlohmann::ordered_json::array();
      if (!*as_json) {
        std::cout << info.name << "  " << info.summary << "\n    " << info.paper << "\n    networks:";
        for (const std::string& network : info.networks) std::cout << " " << network;
        std::cout << (info.networks.empty() ? " any\n" : "\n");
      }
      for (const OptionInfo& option : reader.options()) {
        options.push_back({{"name", option.name}, {"default", option.value}, {"help", option.help}});
        if (!option.words.empty()) options.back()["values"] = option.words;
        if (!*as_json) {
          std::cout << "    --set " << option.name << "=" << option.value
                    << std::string(option.name.size() + option.value.size() < 32
                                       ? 32 - option.name.size() - option.value.size()
                                       : 1,
                                   ' ')
                    << option.help << (option.words.empty() ? "" : " (" + choices(option) + ")") << "\n";
        }
      }
      list.push_back({{"name", info.name},
                      {"paper", info.paper},
                      {"summary", info.summary},
                      {"networks", info.networks},
                      {"options", options}});
    }
    nlohmann::ordered_json networks = network_names();
    if (*as_json) {
      std::cout << nlohmann::ordered_json{{"methods", list}, {"networks", networks}}.dump(1) << std::endl;
      return;
    }
    std::cout << "networks:";
    for (const std::string& name : network_names()) std::cout << " " << name;
    std::cout << std::endl;
  });
}

}  // namespace semivox

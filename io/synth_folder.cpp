#include "io/synth_folder.hpp"

#include <cstdio>

#include "io/dataset_writer.hpp"
#include "io/nifti.hpp"
#include "io/parallel_cases.hpp"

namespace semivox::io {
namespace {

std::string case_name(int64_t index) {
  char name[32];
  std::snprintf(name, sizeof name, "synth_%03lld", static_cast<long long>(index));
  return name;
}

}  // namespace

void write_synth_folder(const std::string& folder, const SynthFolder& description,
                        const std::function<SynthCase(int64_t)>& make_case) {
  DatasetLists lists{
      description.name, {description.channel}, description.class_names, description.cases, {}, {}, {}};
  for (int64_t i = 0; i < description.cases; ++i) lists.order.push_back(case_name(i));
  lists.validation.assign(lists.order.end() - description.cases / 3, lists.order.end());
  const DatasetWriter writer(folder, lists.order);
  for_each_case(description.cases, [&](int64_t i) {
    const SynthCase made = make_case(i);
    write_nifti_stored(writer.image_path(case_name(i)), made.image);
    write_nifti_labels(writer.label_path(case_name(i)), made.label);
  });
  writer.finish(lists);
}

}  // namespace semivox::io

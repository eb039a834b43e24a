// `semivox predict` through the command line: what it writes equals what the library computes, on the grid of
// the input, and what it refuses.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "engine/safetensors.hpp"
#include "io/case_cache.hpp"
#include "io/hdf5.hpp"
#include "io/nifti.hpp"
#include "io/resample.hpp"
#include "methods/sliding_window.hpp"
#include "methods/weights.hpp"
#include "tests/run_program.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;
namespace fs = std::filesystem;

namespace {

const WindowOptions kWindows{.patch = {16, 32, 16}, .stride = {8, 16, 8}};
const std::string kModelArguments =
    " --network vnet --filters 2 --classes 3 --patch 16x32x16 --stride 8x16x8";

io::Image wave(const io::Extent3& shape, double phase = 0) {
  io::Image image{shape, std::vector<float>(static_cast<size_t>(io::voxel_count(shape))), {}};
  image.geometry.known = true;
  image.geometry.spacing = {1.5, 2.0, 2.5};
  for (size_t i = 0; i < image.voxels.size(); ++i) {
    image.voxels[i] = static_cast<float>(2 * std::sin(0.11 * static_cast<double>(i) + phase) +
                                         std::cos(0.0137 * static_cast<double>(i)));
  }
  return image;
}

Tensor tensor_of(const io::Image& image) {
  const Tensor tensor =
      Tensor::empty({1, 1, image.shape[0], image.shape[1], image.shape[2]}, DType::f32, Device{});
  std::copy(image.voxels.begin(), image.voxels.end(), tensor.data<float>());
  return tensor;
}

/// A network whose logits have mean zero on a wave, so that all three classes occur.
std::unique_ptr<Network> small_network(uint64_t seed) {
  auto network = make_network({.classes = 3, .filters = 2});
  network->allocate(DType::f32, Device{}, false);
  network->parameters().initialize(seed);
  const Tensor logits = network->forward(Variable(tensor_of(wave({16, 32, 16}))), Pass{}).value();
  float* bias = network->parameters().parameters().back().value.data<float>();
  for (int64_t i = 0; i < logits.elements(); ++i) {
    bias[i % 3] -= logits.data<float>()[i] / static_cast<float>(logits.shape().voxels());
  }
  return network;
}

std::vector<uint8_t> labels_of(const Tensor& probabilities, int neighbours = 0) {
  const Tensor labels = argmax_labels(probabilities, neighbours);
  return {labels.data<uint8_t>(), labels.data<uint8_t>() + labels.elements()};
}

/// A folder with weights `w.safetensors` of seed 1 and a scan `heart_0000.nii.gz`.
struct Workplace {
  TemporaryFolder folder;
  std::unique_ptr<Network> network = small_network(1);
  io::Image scan = wave({20, 30, 25});
  std::string weights = folder / "w.safetensors", input = folder / "heart_0000.nii.gz",
              output = folder / "out";

  Workplace() {
    SafetensorsFile file;
    append_weights(*network, file);
    write_safetensors(weights, file);
    io::write_nifti_image(input, scan);
  }

  ProgramResult predict(const std::string& more = "") const {
    return run_program("predict --weights " + weights + kModelArguments + " --input " + input + " --output " +
                       output + " " + more);
  }
};

}  // namespace

TEST_CASE("predict: labels and probabilities are the library's, the header is the input's") {
  const Workplace place;
  const ProgramResult result = place.predict("--normalize none --probabilities --overlay");
  CAPTURE(result.output);
  REQUIRE(result.exit_code == 0);
  CHECK(mentions(result.output, "[1/1] heart ", "20x30x25", "6 windows", "1 predicted"));

  const io::Image scan = io::read_nifti_image(place.input);
  const Tensor probabilities = predict_probabilities(*place.network, tensor_of(scan), kWindows);
  const io::LabelMap labels = io::read_nifti_labels(place.output + "/heart.nii.gz", 3);
  CHECK(labels.voxels == labels_of(probabilities));
  for (const uint8_t k : {0, 1, 2}) CHECK(std::count(labels.voxels.begin(), labels.voxels.end(), k) > 100);
  CHECK(labels.geometry.spacing == scan.geometry.spacing);
  for (int64_t k = 1; k < 3; ++k) {
    const io::Image map = io::read_nifti_image(place.output + text("/heart_prob", k, ".nii.gz"));
    REQUIRE(map.shape == scan.shape);
    int64_t different = 0;
    for (size_t i = 0; i < map.voxels.size(); ++i) {
      if (map.voxels[i] != probabilities.data<float>()[i * 3 + k]) ++different;
    }
    CHECK(different == 0);
  }
  CHECK(read_bytes(place.output + "/heart.png").substr(1, 3) == "PNG");
  int files = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(place.output)) ++files;
  CHECK(files == 4);  // no temporary file is left
}

TEST_CASE("predict: windows as asked for") {
  const Workplace place;
  WindowOptions windows = kWindows;
  int neighbours = 0;
  std::string arguments;
  SUBCASE("gaussian, batched") {
    windows.weighting = WindowOptions::Weighting::gaussian;
    arguments = "--weighting gaussian --window-batch 3";
  }
  SUBCASE("mirrored") {
    windows.mirror = true;
    arguments = "--mirror";
  }
  SUBCASE("largest component, 26 neighbours by default") {
    neighbours = 26;
    arguments = "--largest-component";
  }
  SUBCASE("largest component, 6 neighbours") {
    neighbours = 6;
    arguments = "--largest-component 6";
  }
  const ProgramResult result = place.predict(arguments);
  CAPTURE(result.output);
  REQUIRE(result.exit_code == 0);
  const std::vector<uint8_t> found = io::read_nifti_labels(place.output + "/heart.nii.gz", 3).voxels;
  const Tensor image = tensor_of(io::read_nifti_image(place.input));
  CHECK(found == labels_of(predict_probabilities(*place.network, image, windows), neighbours));
  CHECK(found != labels_of(predict_probabilities(*place.network, image, kWindows)));
}

TEST_CASE("predict: the whole volume as one window, and then no word about windows") {
  const Workplace place;
  const std::string command = "predict --network vnet --filters 2 --classes 3 --whole-volume --weights " +
                              place.weights + " --input " + place.input + " --output " + place.output;
  for (const std::string other : {" --patch 16x32x16", " --stride 8x16x8", " --weighting gaussian"}) {
    const ProgramResult refused = run_program(command + other);
    CAPTURE(refused.output);
    CHECK(refused.exit_code == 2);
    CHECK(mentions(refused.output, "--whole-volume"));
    CHECK(mentions(refused.output, other.substr(1, other.find(' ', 1) - 1)));
  }
  REQUIRE(run_program(command).exit_code == 0);
  const WindowOptions windows{.whole_volume = true};
  const Tensor image = tensor_of(io::read_nifti_image(place.input));
  CHECK(io::read_nifti_labels(place.output + "/heart.nii.gz", 3).voxels ==
        labels_of(predict_probabilities(*place.network, image, windows)));
}

TEST_CASE("predict: resampled and normalised on the way in, back on the input grid on the way out") {
  const Workplace place;
  const ProgramResult result = place.predict("--spacing 2 --normalize zscore");
  CAPTURE(result.output);
  REQUIRE(result.exit_code == 0);
  CHECK(mentions(result.output, "20x30x25 as 15x30x31"));

  const io::Image scan = io::read_nifti_image(place.input);
  const io::Preparation preparation{
      {{.kind = io::Normalization::Kind::zscore}}, {2, 2, 2}, io::SliceAxis::none};
  const io::Image prepared = io::prepare_channels({scan}, preparation, {"heart", {place.input}, ""}).front();
  REQUIRE(prepared.shape == io::Extent3{15, 30, 31});
  const Tensor probabilities = predict_probabilities(*place.network, tensor_of(prepared), kWindows);
  const std::vector<float> values(probabilities.data<float>(),
                                  probabilities.data<float>() + probabilities.elements());
  CHECK(io::read_nifti_labels(place.output + "/heart.nii.gz", 3).voxels ==
        io::resample_argmax(values, 3, prepared.shape, scan.shape));
}

TEST_CASE("predict: a run folder describes itself") {
  const Workplace place;
  const std::string checkpoints = place.folder / "run/checkpoints/";
  fs::create_directories(checkpoints);
  SafetensorsFile best, latest;
  const auto other = small_network(2);
  append_weights(*other, best);
  append_weights(*place.network, latest, "student/");
  append_weights(*other, latest, "teacher/");
  for (SafetensorsFile* file : {&best, &latest}) {
    describe_network(place.network->options(), file->metadata);
    file->metadata["semivox.patch"] = "16x32x16";
    file->metadata["semivox.spacing"] = "0";
    file->metadata["semivox.normalize"] = "none";
  }
  write_safetensors(checkpoints + "best.safetensors", best);
  write_safetensors(checkpoints + "latest.safetensors", latest);

  const std::string command = "predict --run " + (place.folder / "run") + " --input " + place.input +
                              " --output " + place.output + " --checkpoint ";
  const Tensor image = tensor_of(io::read_nifti_image(place.input));
  WindowOptions windows = kWindows;
  windows.stride = {4, 8, 4};  // by default a quarter of the patch
  for (const auto& [checkpoint, network] :
       {std::pair{"best", other.get()}, {"latest", place.network.get()}}) {
    const ProgramResult result = run_program(command + checkpoint);
    CAPTURE(result.output);
    REQUIRE(result.exit_code == 0);
    CHECK(io::read_nifti_labels(place.output + "/heart.nii.gz", 3).voxels ==
          labels_of(predict_probabilities(*network, image, windows)));
  }
  const ProgramResult missing = run_program(command + "final");
  CHECK(missing.exit_code == 3);
  CHECK(mentions(missing.output, "final.safetensors", "does not exist", "best, latest"));
}

TEST_CASE("predict: a folder of scans, finished ones skipped") {
  Workplace place;
  const std::string scans = place.folder / "scans";
  fs::create_directories(scans + "/field");
  io::write_nifti_image(scans + "/b_0000.nii.gz", wave({17, 9, 20}, 1));
  io::write_nifti_image(scans + "/c_2018.nii", wave({16, 32, 16}, 2));
  io::write_hdf5_case(scans + "/field/mri_norm2.h5", wave({12, 33, 16}, 3), nullptr);
  write_bytes(scans + "/readme.txt", "not a scan");
  place.input = scans;

  const ProgramResult first = place.predict();
  CAPTURE(first.output);
  REQUIRE(first.exit_code == 0);
  CHECK(mentions(first.output, "[1/3] b ", "[2/3] c_2018 ", "[3/3] field ", "3 predicted, 0 skipped"));
  CHECK(io::read_nifti_labels(place.output + "/field.nii.gz", 3).shape == io::Extent3{12, 33, 16});

  fs::remove(place.output + "/c_2018.nii.gz");
  const ProgramResult second = place.predict("--continue");
  CHECK(second.exit_code == 0);
  CHECK(mentions(second.output, "1 predicted, 2 skipped"));
  CHECK(fs::exists(place.output + "/c_2018.nii.gz"));
}

TEST_CASE("predict: a network of two channels takes CASE_0000 and CASE_0001") {
  Workplace place;
  const auto network = make_network({.in_channels = 2, .classes = 3, .filters = 2});
  network->allocate(DType::f32, Device{}, false);
  network->parameters().initialize(4);
  SafetensorsFile file;
  append_weights(*network, file);
  write_safetensors(place.weights, file);
  const ProgramResult missing = place.predict("--in-channels 2");
  CHECK(missing.exit_code == 3);
  CHECK(mentions(missing.output, "heart_0000.nii.gz", "1 of 2 channels"));

  const std::string partner = place.folder / "heart_0001.nii.gz";
  io::write_nifti_image(partner, wave({20, 30, 24}));
  const ProgramResult misshapen = place.predict("--in-channels 2");
  CHECK(misshapen.exit_code == 3);
  CHECK(mentions(misshapen.output, "heart_0001.nii.gz", "20x30x24", "heart_0000.nii.gz", "20x30x25"));

  io::write_nifti_image(partner, wave({20, 30, 25}, 1));
  const ProgramResult result = place.predict("--in-channels 2");
  CAPTURE(result.output);
  REQUIRE(result.exit_code == 0);
  const std::vector<float> first = io::read_nifti_image(place.input).voxels;
  const std::vector<float> second = io::read_nifti_image(partner).voxels;
  const Tensor image = Tensor::empty({1, 2, 20, 30, 25}, DType::f32, Device{});
  for (size_t i = 0; i < first.size(); ++i) {
    image.data<float>()[2 * i] = first[i];
    image.data<float>()[2 * i + 1] = second[i];
  }
  CHECK(io::read_nifti_labels(place.output + "/heart.nii.gz", 3).voxels ==
        labels_of(predict_probabilities(*network, image, kWindows)));
}

TEST_CASE("predict: what cannot work is one message, an exit code and no output") {
  Workplace place;
  const std::string folder = place.folder / "";
  int exit_code = 3;
  std::string arguments;
  std::vector<std::string> words;
  SUBCASE("no such input") {
    place.input = folder + "nowhere";
    words = {"nowhere", "does not exist"};
  }
  SUBCASE("folder without scans") {
    place.input = folder + "empty";
    fs::create_directory(place.input);
    words = {"empty", ".nii.gz"};
  }
  SUBCASE("the labels of a data set as output") {
    fs::create_directories(folder + "set/labelsTr");
    write_bytes(folder + "set/dataset.json", "{}");
    place.output = folder + "set/labelsTr/";
    exit_code = 2;
    words = {"set/labelsTr", "holds files of a data set"};
  }
  SUBCASE("truncated scan") {
    const std::string bytes = read_bytes(place.input);
    write_bytes(place.input, bytes.substr(0, bytes.size() / 2));
    words = {"heart_0000.nii.gz"};
  }
  SUBCASE("a channel too many") {
    fs::create_directory(folder + "scans");
    for (const char* name : {"/a_0000.nii.gz", "/a_0001.nii.gz"})
      fs::copy(place.input, folder + "scans" + name);
    place.input = folder + "scans";
    words = {"a_0001.nii.gz", "expected 1 channel"};
  }
  SUBCASE("two files of one case") {
    fs::create_directory(folder + "scans");
    for (const char* name : {"/a_0000.nii.gz", "/a.nii.gz"}) fs::copy(place.input, folder + "scans" + name);
    place.input = folder + "scans";
    words = {"a_0000.nii.gz", "a.nii.gz", "two files"};
  }
  SUBCASE("another width") {
    arguments = "--filters 4";
    exit_code = 2;  // given twice
    words = {"--filters"};
  }
  SUBCASE("other norm") {
    arguments = "--norm none";
    words = {"w.safetensors", "block_two.conv.2.weight"};
  }
  SUBCASE("corrupt weights") {
    write_bytes(place.weights, std::string(100, '\xff'));
    words = {"w.safetensors", "header"};
  }
  SUBCASE("resampling without spacing") {
    place.input = folder + "case.h5";
    io::write_hdf5_case(place.input, wave({16, 32, 16}), nullptr);
    arguments = "--spacing 1.25";
    words = {"case.h5", "spacing"};
  }
  SUBCASE("both sources") {
    arguments = "--run " + folder;
    exit_code = 2;
    words = {"--run", "--weights"};
  }
  SUBCASE("normalisation that does not exist") {
    arguments = "--spacing 1,25";
    exit_code = 2;
    words = {"--spacing", "1,25"};
  }
  SUBCASE("component neighbours that do not exist") {
    arguments = "--largest-component 8";
    exit_code = 2;
    words = {"--largest-component", "8"};
  }
  // Named, the device is not announced: the lines counted below are those of the fault alone.
  const ProgramResult result = place.predict(arguments + " --device cpu");
  CAPTURE(result.output);
  CHECK(result.exit_code == exit_code);
  for (const std::string& word : words) CHECK(mentions(result.output, word));
  CHECK(std::count(result.output.begin(), result.output.end(), '\n') <= 3);
  CHECK(!fs::exists(place.output + "/heart.nii.gz"));
}

TEST_CASE("predict: a patch that the network cannot take, an output that cannot be") {
  Workplace place;
  const std::string start =
      "predict --weights " + place.weights + " --filters 2 --classes 3 --input " + place.input + " --output ";
  const ProgramResult patch = run_program(start + place.output + " --patch 16x30x16");
  CHECK(patch.exit_code == 2);
  CHECK(mentions(patch.output, "16x30x16", "16x16x16"));
  const ProgramResult unknown = run_program(start + place.output);
  CHECK(unknown.exit_code == 2);
  CHECK(mentions(unknown.output, "--patch"));
  const ProgramResult gaps = run_program(start + place.output + " --patch 16x16x16 --stride 16x17x16");
  CHECK(gaps.exit_code == 2);
  CHECK(mentions(gaps.output, "stride", "16x17x16"));
  CHECK(!fs::exists(place.output));

  write_bytes(place.folder / "file", "in the way");
  const ProgramResult blocked = run_program(start + (place.folder / "file") + " --patch 16x16x16");
  CHECK(blocked.exit_code == 3);
  CHECK(mentions(blocked.output, place.folder / "file", "output folder"));

  const std::string scan = place.folder / "scan.nii.gz";
  fs::copy(place.input, scan);
  const std::string before = read_bytes(scan);
  const ProgramResult over = run_program("predict --weights " + place.weights + kModelArguments +
                                         " --input " + scan + " --output " + (place.folder / ""));
  CHECK(over.exit_code == 2);
  CHECK(mentions(over.output, "scan.nii.gz", "another folder"));
  CHECK(read_bytes(scan) == before);
}

// Tensors that a method owns beside networks and optimisers, through a checkpoint and back.
#include "methods/checkpoint.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "engine/safetensors.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;

namespace {

/// A method that owns a bank of vectors in f32 or f64 and a position in it.
class Bank : public Method {
 public:
  explicit Bank(DType dtype, int64_t vectors = 2, const std::string& position = "position")
      : bank_(Tensor::zeros({3, 5, 1, 1, vectors}, dtype, {})),
        cursor_(Tensor::zeros({}, DType::i32, {})),
        cursor_name_(position) {
    network_ = make_network({.filters = 2});
    network_->allocate(DType::f32, {}, true);
    network_->parameters().initialize(1);
    optimizer_ = make_optimizer({}, network_->parameters());
  }

  std::vector<Phase> phases(const MethodSetup& setup) const override { return half_labeled_phase(setup); }
  void build(const MethodSetup&) override {}
  StepReader queue(const Batch&, const StepContext&) override {
    return [] { return StepReport{{"loss", 0}}; };
  }
  Network& student() override { return *network_; }
  std::vector<std::pair<std::string, Network*>> networks() override { return {{"student", network_.get()}}; }
  std::vector<std::pair<std::string, Optimizer*>> optimizers() override {
    return {{"sgd", optimizer_.get()}};
  }
  std::vector<std::pair<std::string, Tensor*>> buffers() override {
    return {{"bank", &bank_}, {cursor_name_, &cursor_}};
  }

  Tensor bank_, cursor_;

 private:
  std::string cursor_name_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Optimizer> optimizer_;
};

}  // namespace

TEST_CASE("checkpoint: a method's buffers come back bit for bit, into the same memory") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const TemporaryFolder folder;
    Bank saved(dtype), loaded(dtype);
    for (int64_t i = 0; i < saved.bank_.bytes(); ++i) {  // any bits, NaNs among them
      static_cast<unsigned char*>(saved.bank_.raw())[i] = static_cast<unsigned char>(255 - 7 * i);
    }
    saved.cursor_.data<int32_t>()[0] = -123456;
    save_checkpoint(folder / "latest.safetensors", saved, {1, 2, 0.5, 0.25}, {{"run.method", "bank"}});
    const void* memory = loaded.bank_.raw();
    const Progress progress =
        load_checkpoint(folder / "latest.safetensors", loaded, {{"run.method", "bank"}});
    CHECK(progress.iteration == 2);
    CHECK(loaded.bank_.raw() == memory);
    CHECK(std::memcmp(loaded.bank_.raw(), saved.bank_.raw(), static_cast<size_t>(saved.bank_.bytes())) == 0);
    CHECK(loaded.cursor_.data<int32_t>()[0] == -123456);
    const SafetensorsFile file = read_safetensors(folder / "latest.safetensors");
    CHECK(file.find("buffer/bank")->dims == std::vector<int64_t>{3, 1, 1, 2, 5});  // in memory order
    CHECK(file.find("buffer/position")->dtype == "I32");
  }
}

TEST_CASE("checkpoint: buffers of another dtype or shape, or missing ones, are refused") {
  const TemporaryFolder folder;
  const std::string path = folder / "latest.safetensors";
  Bank saved(DType::f32);
  save_checkpoint(path, saved, {}, {});
  const auto refusal = [&](Bank&& target) { return data_error([&] { load_checkpoint(path, target, {}); }); };
  CHECK(refusal(Bank(DType::f64)) ==
        path + ": array buffer/bank: found F32 (3, 1, 1, 2, 5), expected F64 (3, 1, 1, 2, 5)");
  CHECK(refusal(Bank(DType::f32, 4)) ==
        path + ": array buffer/bank: found F32 (3, 1, 1, 2, 5), expected F32 (3, 1, 1, 4, 5)");
  CHECK(refusal(Bank(DType::f32, 2, "cursor")) == path + ": array buffer/cursor is missing");
}

// Probabilities of a CT by a model with the preprocessing inside: ONNX Runtime, nothing else.
// main model.onnx scan.raw SLICES ROWS COLUMNS SLOPE INTERCEPT

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

int run(char** argument) {
  const int64_t shape[] = {std::stoll(argument[3]), std::stoll(argument[4]), std::stoll(argument[5])};
  float slope = std::stof(argument[6]), intercept = std::stof(argument[7]);

  std::vector<int16_t> voxels(shape[0] * shape[1] * shape[2]);
  std::ifstream file(argument[2], std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(voxels.data()), voxels.size() * sizeof(int16_t)))
    throw std::runtime_error("the scan cannot be read, or holds fewer voxels than that");

  Ort::Env environment;
  Ort::Session session(environment, std::filesystem::path(argument[1]).c_str(), Ort::SessionOptions{});
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::Value inputs[] = {
      Ort::Value::CreateTensor<int16_t>(memory, voxels.data(), voxels.size(), shape, 3),
      Ort::Value::CreateTensor<float>(memory, &slope, 1, nullptr, 0),
      Ort::Value::CreateTensor<float>(memory, &intercept, 1, nullptr, 0),
  };
  const char* input_names[] = {"voxels", "slope", "intercept"};
  const char* output_names[] = {"probabilities"};
  auto outputs = session.Run(Ort::RunOptions{}, input_names, inputs, 3, output_names, 1);

  const float* probabilities = outputs[0].GetTensorData<float>();
  const size_t classes = outputs[0].GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t n = 0; n < classes; ++n) std::printf("%s%.6f", n ? " " : "", probabilities[n]);
  std::printf("\n");
  return 0;
}

int main(int count, char** argument) {
  if (count != 8) {
    std::fprintf(stderr, "usage: main MODEL SCAN SLICES ROWS COLUMNS SLOPE INTERCEPT\n");
    return 2;
  }
  try {
    return run(argument);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

// SPDX-License-Identifier: Apache-2.0
#include "server/cli/preprocess_command.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

namespace idefics {
namespace {

Result<std::vector<uint8_t>> ReadFile(const std::string& path, int64_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return Status::InvalidInput("'" + path + "' is no file: give the path of an image file");
  }
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (size > max_bytes) {
    return Status::TooLarge("the image file is " + std::to_string(size) + " bytes, the limit is " +
                            std::to_string(max_bytes) + ": give a smaller file");
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(error ? 0 : size));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (error || !file) {
    return Status::InvalidInput("'" + path + "' cannot be read: check its permissions");
  }
  return bytes;
}

// A name in out_dir that no other file of this call has.
std::string ChooseOutput(const std::string& out_dir, const std::string& file,
                         std::set<std::string>* taken) {
  const std::string stem = std::filesystem::path(file).stem().string();
  std::string name = stem + ".png";
  for (int n = 2; !taken->insert(name).second; ++n) name = stem + "-" + std::to_string(n) + ".png";
  return (std::filesystem::path(out_dir) / name).string();
}

Result<ModelImage> Process(const std::string& file, const PreprocessOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadFile(file, options.limits.max_bytes));
  const ImagePolicy policy =
      options.as_url ? ImagePolicy::kUprightAlphaDropped : ImagePolicy::kAlphaOverWhite;
  return PreprocessImage(bytes, policy, options.constants, options.limits);
}

}  // namespace

int RunPreprocess(const std::vector<std::string>& files, const PreprocessOptions& options,
                  std::ostream& out) {
  if (!options.out_dir.empty()) {
    std::error_code ignored;  // writing the first PNG tells
    std::filesystem::create_directories(options.out_dir, ignored);
  }
  std::set<std::string> taken;
  bool all_ok = true;
  for (const std::string& file : files) {
    nlohmann::ordered_json line = {{"file", file}};
    const Result<ModelImage> image = Process(file, options);
    Status status = image.ok() ? Status::Ok() : image.status();
    if (image.ok() && !options.out_dir.empty()) {
      const int size = options.constants.image_size;
      status = WritePng(ChooseOutput(options.out_dir, file, &taken), image->rgb, size, size);
    }
    if (status.ok()) {
      line["width"] = image->width;
      line["height"] = image->height;
      line["format"] = image->format;
      line["sha256"] = image->sha256;
    } else {
      line["error"] = status.message();
      all_ok = false;
    }
    out << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n"
        << std::flush;
  }
  return all_ok ? 0 : 1;
}

}  // namespace idefics

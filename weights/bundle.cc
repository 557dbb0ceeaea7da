// SPDX-License-Identifier: Apache-2.0
#include "weights/bundle.h"

#include <unordered_set>
#include <utility>

#include "weights/mapped_file.h"
#include "weights/verify_files.h"

namespace idefics {
namespace {

constexpr std::string_view kManifestFile = "bundle.json";
constexpr std::string_view kWeightSuffix = ".safetensors";

Result<std::string> ReadWholeFile(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MapFile(path));
  return std::string(file.bytes.begin(), file.bytes.end());
}

Status CheckNamed(const BundleManifest& manifest, const std::string& name) {
  if (manifest.files.contains(name)) return Status::Ok();
  return Status::InvalidInput("bundle.json names no file " + name + ": export the bundle again");
}

}  // namespace

Result<Bundle> Bundle::Open(const std::filesystem::path& path, const OpenBundleOptions& options) {
  Bundle bundle;
  bundle.path_ = path;
  std::error_code ignored;
  if (!std::filesystem::exists(path / kManifestFile, ignored)) {
    return Status::InvalidInput(path.string() + " has no " + std::string(kManifestFile) +
                                ": give a bundle folder, made by scripts/export.sh");
  }
  const auto prefixed = [&path](const Status& status) { return status.WithPrefix(path.string()); };
  ASSIGN_OR_RETURN(const std::string json, ReadWholeFile(path / kManifestFile));
  Result<BundleManifest> manifest = ParseManifest(json);
  if (!manifest.ok()) return prefixed(manifest.status());
  bundle.manifest_ = std::move(manifest).value();
  for (const std::string& name :
       {std::string("vision.ts"), std::string("decoder.ts"), bundle.manifest_.tokenizer.file}) {
    if (const Status status = CheckNamed(bundle.manifest_, name); !status.ok()) {
      return prefixed(status);
    }
  }
  RETURN_IF_ERROR(VerifyFileSizes(path, bundle.manifest_.files));
  RETURN_IF_ERROR(bundle.Verify(json, options));
  RETURN_IF_ERROR(bundle.MapTensors());
  return bundle;
}

Status Bundle::Verify(const std::string& manifest_text, const OpenBundleOptions& options) const {
  if (options.verify_hashes == VerifyHashes::kNever) return Status::Ok();
  const bool remember = options.verify_hashes == VerifyHashes::kChanged;
  const VerificationCache cache(remember ? options.verification_cache : "", path_, manifest_text,
                                manifest_.files);
  if (cache.Matches()) return Status::Ok();
  const VerifyHashesOptions hashing{.num_threads = options.num_threads,
                                    .show_progress = options.show_progress};
  RETURN_IF_ERROR(VerifyFileHashes(path_, manifest_.files, hashing));
  cache.Remember(options.now_ns());
  return Status::Ok();
}

Status Bundle::MapTensors() {
  std::unordered_set<std::string> names;
  for (const auto& [name, file] : manifest_.files) {  // a std::map: weights-00001 comes first
    if (!name.ends_with(kWeightSuffix)) continue;
    ASSIGN_OR_RETURN(const SafetensorsFile weights, SafetensorsFile::Open(path_ / name));
    for (const TensorView& tensor : weights.tensors()) {
      if (!names.insert(tensor.name).second) {
        return Status::InvalidInput((path_ / name).string() + " holds the tensor " + tensor.name +
                                    " a second time: export the bundle again");
      }
      weight_bytes_ += tensor.bytes.size();
      tensors_.push_back(tensor);
    }
  }
  if (!tensors_.empty()) return Status::Ok();
  return Status::InvalidInput(path_.string() + " holds no weights: export the bundle again");
}

Result<std::string> Bundle::ReadFile(const std::string& name) const {
  RETURN_IF_ERROR(CheckNamed(manifest_, name).WithPrefix(path_.string()));
  return ReadWholeFile(path_ / name);
}

Result<std::string> Bundle::ReadManifestText() const {
  return ReadWholeFile(path_ / kManifestFile);
}

}  // namespace idefics

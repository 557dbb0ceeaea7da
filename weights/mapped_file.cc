// SPDX-License-Identifier: Apache-2.0
#include "weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "weights/lost_file.h"

namespace idefics {

Result<MappedFile> MapFile(const std::filesystem::path& path) {
  const auto failed = [&path](const char* why) {
    return Status::InvalidInput(path.string() + " cannot be read: " + why);
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed(std::strerror(errno));
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return failed("it is not a regular file");
  }
  const size_t size = static_cast<size_t>(info.st_size);
  if (size == 0) {
    close(fd);
    return MappedFile{};
  }
  void* address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (address == MAP_FAILED) return failed(std::strerror(error));
  MappedFile file;
  file.bytes = {static_cast<const uint8_t*>(address), size};
  WatchMapping(file.bytes, path);
  file.owner = std::shared_ptr<const void>(address, [bytes = file.bytes](const void* mapping) {
    UnwatchMapping(bytes);
    munmap(const_cast<void*>(mapping), bytes.size());
  });
  return file;
}

}  // namespace idefics

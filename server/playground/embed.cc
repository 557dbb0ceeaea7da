// SPDX-License-Identifier: Apache-2.0
// playground_embed OUTPUT BUDGET_KIB FOLDER NAME…: a program of the build. Writes the page's files
// as a table of bytes, plain and compressed, to OUTPUT (C++), and refuses what the page must not
// be: larger than its budget, or able to turn text into markup or to name another server.
// The same files give the same bytes.
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/playground/page_file.h"

namespace idefics {
namespace {

struct Source {
  std::string name;
  std::string bytes;
  std::string gzip;  // empty: no shorter

  size_t served_bytes() const { return gzip.empty() ? bytes.size() : gzip.size(); }
};

[[noreturn]] void Refuse(const std::string& sentence) {
  std::cerr << "playground_embed: " << sentence << "\n";
  std::exit(1);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) Refuse(path + " cannot be read.");
  std::ostringstream content;
  content << in.rdbuf();
  return std::move(content).str();
}

// Level 9, without a name and a time. Empty where zlib fails.
std::string Compress(const std::string& bytes) {
  constexpr int kGzipWindow = 15 + 16;
  constexpr int kMemory = 9;
  z_stream stream{};
  if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, kGzipWindow, kMemory,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    return "";
  }
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int ended = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return ended == Z_STREAM_END ? out : "";
}

size_t LineOf(const std::string& text, size_t position) {
  return 1 + static_cast<size_t>(std::count(text.begin(), text.begin() + position, '\n'));
}

// The namespace of SVG looks like an address and is none.
std::string WithoutNamespaces(const std::string& text) {
  static const std::regex kNamespace(R"(xmlns="http://www\.w3\.org/2000/svg")");
  return std::regex_replace(text, kNamespace, "");
}

void CheckText(const Source& source) {
  static const std::pair<std::regex, const char*> kForbidden[] = {
      {std::regex(R"((inner|outer)HTML|insertAdjacentHTML|document\.write)"),
       "makes markup of text: build elements instead (el.js)"},
      {std::regex(R"(\beval\(|new Function\()"), "runs text"},
      {std::regex(R"(\bstyle=|\bon[a-z]+=)"),
       "is inline style or script, which the page's policy stops"},
      {std::regex(R"(https?://[A-Za-z0-9])"), "names another server: the page asks only its own"},
  };
  const std::string text = WithoutNamespaces(source.bytes);
  for (const auto& [pattern, why] : kForbidden) {
    std::smatch found;
    if (!std::regex_search(text, found, pattern)) continue;
    Refuse(source.name + ":" + std::to_string(LineOf(text, found.position())) + ": '" +
           found.str() + "' " + why + ".");
  }
}

void CheckBudget(const std::vector<Source>& sources, size_t budget) {
  size_t total = 0;
  const Source* largest = &sources.front();
  for (const Source& source : sources) {
    total += source.served_bytes();
    if (source.served_bytes() > largest->served_bytes()) largest = &source;
  }
  if (total <= budget) return;
  Refuse("the playground page is " + std::to_string(total) + " bytes compressed, its budget is " +
         std::to_string(budget) + "; the largest file is " + largest->name + " with " +
         std::to_string(largest->served_bytes()) + ".");
}

// A C++ string literal; octal escapes have three digits, so that no digit behind one joins it.
std::string Literal(std::string_view bytes) {
  constexpr size_t kColumns = 96;
  std::string out = "\n    \"";
  size_t column = 0;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    std::string shown(1, c);
    if (byte < 0x20 || byte > 0x7e || c == '"' || c == '\\' || c == '?') {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\%03o", byte);
      shown = escape;
    }
    if (column + shown.size() > kColumns) {
      out += "\"\n    \"";
      column = 0;
    }
    out += shown;
    column += shown.size();
  }
  return out + "\"";
}

std::string View(std::string_view bytes) {
  if (bytes.empty()) return "{}";
  return "std::string_view(" + Literal(bytes) + ", " + std::to_string(bytes.size()) + ")";
}

std::string Table(const std::vector<Source>& sources) {
  std::string out =
      "// SPDX-License-Identifier: Apache-2.0\n// Written by playground_embed.\n"
      "#include \"server/playground/page_file.h\"\n\nnamespace idefics {\nnamespace {\n\n"
      "constexpr PageFile kFiles[] = {\n";
  for (const Source& source : sources) {
    out += "    {" + View(source.name) + ", " + View(PageFileType(source.name)) + ", " +
           View(PageFileTag(source.bytes)) + ", " + View(source.bytes) + ", " + View(source.gzip) +
           "},\n";
  }
  return out +
         "};\n\n}  // namespace\n\nstd::span<const PageFile> EmbeddedPage() { return kFiles; }\n\n"
         "}  // namespace idefics\n";
}

Source Load(const std::string& folder, const std::string& name) {
  Source source{name, ReadFile(folder + "/" + name), ""};
  const std::string_view type = PageFileType(name);
  if (type.empty()) Refuse(name + " is of no kind that a page is made of (page_file.cc).");
  const bool is_text = type != "image/webp";
  if (is_text) CheckText(source);
  std::string compressed = Compress(source.bytes);
  if (!compressed.empty() && compressed.size() < source.bytes.size()) {
    source.gzip = std::move(compressed);
  }
  return source;
}

int Run(int argc, const char* const* argv) {
  if (argc < 5) Refuse("usage: playground_embed OUTPUT BUDGET_KIB FOLDER NAME…");
  constexpr size_t kKib = 1024;
  const size_t budget = std::strtoul(argv[2], nullptr, 10) * kKib;
  std::vector<Source> sources;
  for (int i = 4; i < argc; ++i) sources.push_back(Load(argv[3], argv[i]));
  CheckBudget(sources, budget);
  std::ofstream out(argv[1], std::ios::binary);
  out << Table(sources);
  out.close();
  if (!out) Refuse(std::string(argv[1]) + " cannot be written.");
  return 0;
}

}  // namespace
}  // namespace idefics

int main(int argc, char** argv) { return idefics::Run(argc, argv); }

// SPDX-License-Identifier: Apache-2.0
#include "server/playground/playground_routes.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>
#include <utility>

#include "server/http/header_list.h"
#include "server/playground/page_file.h"

namespace idefics {
namespace {

constexpr std::string_view kIndex = "index.html";

// Nothing but the page's own files runs, nothing but this server is asked, and no text becomes
// markup.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

void AddSecurityHeaders(HttpHeaders* headers) {
  headers->emplace_back("Content-Security-Policy", kPolicy);
  headers->emplace_back("X-Content-Type-Options", "nosniff");
  headers->emplace_back("Referrer-Policy", "no-referrer");
}

HttpResponse Redirect(int status, const char* to) {
  HttpResponse response = HttpResponse::Empty(status);
  response.headers = {{"Location", to}, {"Cache-Control", "no-cache"}};
  return response;
}

HttpResponse NotFound() {
  HttpResponse response = HttpResponse::Text(404, "The playground has no such file.");
  AddSecurityHeaders(&response.headers);
  return response;
}

// "gzip;q=0" forbids it.
bool AcceptsGzip(const HttpRequest& request) {
  const std::string* accepted = request.Header("Accept-Encoding");
  if (accepted == nullptr) return false;
  for (const std::string_view item : SplitHeaderList(*accepted, ",")) {
    const auto parts = SplitHeaderList(item, ";");
    if (parts.empty() || (parts.front() != "gzip" && parts.front() != "*")) continue;
    return parts.size() < 2 || parts[1].find_first_of("123456789") != std::string_view::npos;
  }
  return false;
}

bool HasTag(const HttpRequest& request, std::string_view tag) {
  const std::string* known = request.Header("If-None-Match");
  if (known == nullptr) return false;
  for (std::string_view item : SplitHeaderList(*known, ",")) {
    if (item.starts_with("W/")) item.remove_prefix(2);
    if (item == tag || item == "*") return true;
  }
  return false;
}

// The compressed form is another representation, so it has another tag.
std::string TagOf(const PageFile& file, bool compressed) {
  std::string tag(file.etag);
  if (compressed) tag.insert(tag.size() - 1, "-gz");
  return tag;
}

HttpResponse Answer(const HttpRequest& request, const PageFile& file) {
  const bool compressed = !file.gzip.empty() && AcceptsGzip(request);
  const std::string tag = TagOf(file, compressed);
  const bool unchanged = HasTag(request, tag);
  HttpResponse response = HttpResponse::Empty(unchanged ? 304 : 200);
  response.headers = {{"ETag", tag}, {"Cache-Control", "no-cache"}, {"Vary", "Accept-Encoding"}};
  AddSecurityHeaders(&response.headers);
  if (unchanged) return response;
  response.headers.emplace_back("Content-Type", std::string(file.type));
  if (compressed) response.headers.emplace_back("Content-Encoding", "gzip");
  response.body = std::string(compressed ? file.gzip : file.bytes);
  return response;
}

// A plain name: no folder, nothing hidden.
bool IsPlainName(std::string_view name) {
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
  });
}

}  // namespace

void PlaygroundRoutes::AddTo(Router& router) const {
  router.Add("GET", "/playground", [](HttpRequest&) { return Redirect(308, "playground/"); });
  router.Add("GET", "/playground/",
             [this](HttpRequest& r) { return File(r, std::string(kIndex)); });
  router.Add("GET", "/playground/{file}",
             [this](HttpRequest& r) { return File(r, r.path_parameters[0]); });
}

std::optional<HttpResponse> PlaygroundRoutes::Welcome(const HttpRequest& request) const {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  const std::string* accepted = request.Header("Accept");
  if (!reads || request.path != "/" || accepted == nullptr) return std::nullopt;
  const auto types = SplitHeaderList(*accepted, ",;");
  if (std::find(types.begin(), types.end(), "text/html") == types.end()) return std::nullopt;
  HttpResponse response = Redirect(302, "playground/");
  response.headers.emplace_back("Vary", "Accept");
  return response;
}

bool PlaygroundRoutes::Owns(std::string_view path) {
  return path == "/playground" || path.starts_with("/playground/");
}

HttpResponse PlaygroundRoutes::File(const HttpRequest& request, const std::string& name) const {
  if (!folder_.empty()) return FileOfFolder(request, name);
  for (const PageFile& file : EmbeddedPage()) {
    if (file.name == name) return Answer(request, file);
  }
  return NotFound();
}

HttpResponse PlaygroundRoutes::FileOfFolder(const HttpRequest& request,
                                            const std::string& name) const {
  const std::string_view type = PageFileType(name);
  if (type.empty() || !IsPlainName(name)) return NotFound();
  std::ifstream in(folder_ + "/" + name, std::ios::binary);
  if (!in) return NotFound();
  std::ostringstream content;
  content << in.rdbuf();
  const std::string bytes = std::move(content).str();
  const std::string tag = PageFileTag(bytes);
  HttpResponse response = Answer(request, {name, type, tag, bytes, ""});
  // The page looks for it and reloads itself when a file changes.
  response.headers.emplace_back("X-Playground-Dir", "1");
  return response;
}

}  // namespace idefics

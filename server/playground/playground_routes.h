// SPDX-License-Identifier: Apache-2.0
// The playground's routes (docs/playground.md): a page for people and its files. It talks to the
// server's APIs from the browser; nothing here knows them. Thread safe: routes run on HTTP workers.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/http/router.h"

namespace idefics {

class PlaygroundRoutes {
 public:
  // `folder`: "" serves the files that are part of the program; else each is read from there
  // whenever it is asked for, so that a page being written can be looked at.
  explicit PlaygroundRoutes(std::string folder) : folder_(std::move(folder)) {}

  // `router` must not outlive this.
  void AddTo(Router& router) const;

  // Leads a browser from "/" to the page. nullopt: the request is another, or a program's.
  std::optional<HttpResponse> Welcome(const HttpRequest& request) const;

  // Whether a path is the page's: its files hold nothing that a key should keep.
  static bool Owns(std::string_view path);

 private:
  HttpResponse File(const HttpRequest& request, const std::string& name) const;
  HttpResponse FileOfFolder(const HttpRequest& request, const std::string& name) const;

  const std::string folder_;
};

}  // namespace idefics

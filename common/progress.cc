// SPDX-License-Identifier: Apache-2.0
#include "common/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace idefics {

using std::chrono::steady_clock;

namespace {
constexpr auto kQuiet = std::chrono::milliseconds(500);  // nothing is drawn for short work
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr int kBarWidth = 30;
}  // namespace

Progress::Progress(std::string what, uint64_t total, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(std::max<uint64_t>(total, 1)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(steady_clock::now()),
      last_draw_(start_) {}

Progress::~Progress() {
  if (drawn_) Draw(/*last=*/true);
}

void Progress::Advance(uint64_t amount) {
  done_ = std::min(total_, done_ + amount);
  const auto now = steady_clock::now();
  if (now - start_ < kQuiet) return;
  const int decile = static_cast<int>(10 * done_ / total_);
  if (terminal_ ? now - last_draw_ < kRedraw : decile < next_decile_) return;
  next_decile_ = decile + 1;
  last_draw_ = now;
  Draw(/*last=*/false);
}

void Progress::Draw(bool last) {
  drawn_ = true;
  const double fraction = static_cast<double>(done_) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(steady_clock::now() - start_).count();
  const double left = fraction > 0 ? seconds * (1 - fraction) / fraction : 0;
  const bool bytes = unit_ == "B";
  const double scale = bytes ? 1e9 : 1;
  const int filled = static_cast<int>(fraction * kBarWidth);
  const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
  std::fprintf(stderr, "%s%s [%s] %.*f/%.*f %s, %.0f s, %.0f s left%s", terminal_ ? "\r" : "",
               what_.c_str(), bar.c_str(), bytes ? 2 : 0, static_cast<double>(done_) / scale,
               bytes ? 2 : 0, static_cast<double>(total_) / scale, bytes ? "GB" : unit_.c_str(),
               seconds, left, terminal_ ? (last ? "   \n" : "   ") : "\n");
}

}  // namespace idefics

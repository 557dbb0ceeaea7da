// SPDX-License-Identifier: Apache-2.0
// FairQueue: what clients wait for where there is not enough for all at once. The next item is that
// of the client that holds least; among those that hold as much, of the one whose turn it is
// (turns.h). A client's own items go in order of arrival. So however many items others have
// waiting, a client that holds nothing waits for one turn of each of them at most. No lock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <iterator>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/turns.h"

namespace idefics {

template <typename Item>
class FairQueue {
 public:
  struct Taken {
    std::string client;
    Item item;
    Turns::Turn last_turn;
  };

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // Items of the client.
  size_t NumOf(const std::string& client) const {
    const auto line = lines_.find(client);
    return line == lines_.end() ? 0 : line->second.size();
  }
  // Of the client that has most.
  size_t longest_line() const {
    size_t longest = 0;
    for (const auto& [client, line] : lines_) longest = std::max(longest, line.size());
    return longest;
  }

  void Push(const std::string& client, Item item) {
    turns_.Join(client);
    lines_[client].push_back(std::move(item));
    ++size_;
  }

  // The next one; it is its client's turn. `held(client)` → how much that holds now. REQUIRES: not
  // empty.
  template <typename Held>
  Taken Take(const Held& held) {
    IDEFICS_CHECK(!empty());
    const auto order = [&](const auto& line) {
      return std::tuple(held(line.first), turns_.LastOf(line.first));
    };
    const auto next =
        std::min_element(lines_.begin(), lines_.end(),
                         [&](const auto& a, const auto& b) { return order(a) < order(b); });
    Line& line = next->second;
    Taken taken{next->first, std::move(line.front()), turns_.Take(next->first)};
    line.pop_front();
    --size_;
    if (line.empty()) Erase(next);
    return taken;
  }

  // As if the item that was taken last had not been.
  void PutBack(Taken taken) {
    turns_.TakeBack(taken.client, taken.last_turn);
    lines_[taken.client].push_front(std::move(taken.item));
    ++size_;
  }

  // All items for which `is_wanted` is true, out of turn.
  template <typename IsWanted>
  std::vector<Item> TakeIf(const IsWanted& is_wanted) {
    std::vector<Item> taken;
    for (auto line = lines_.begin(); line != lines_.end();) {
      Line& items = line->second;
      const auto wanted = std::stable_partition(items.begin(), items.end(),
                                                [&](const Item& item) { return !is_wanted(item); });
      std::move(wanted, items.end(), std::back_inserter(taken));
      items.erase(wanted, items.end());
      line = items.empty() ? Erase(line) : std::next(line);
    }
    size_ -= taken.size();
    return taken;
  }

 private:
  using Line = std::deque<Item>;  // never empty
  using Lines = std::map<std::string, Line>;

  typename Lines::iterator Erase(typename Lines::iterator line) {
    turns_.Leave(line->first);
    return lines_.erase(line);
  }

  Lines lines_;
  Turns turns_;
  size_t size_ = 0;
};

}  // namespace idefics

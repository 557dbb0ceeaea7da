// SPDX-License-Identifier: Apache-2.0
// FairQueue: what clients wait for where there is not enough for all at once. The next item is that
// of the client that holds least; among those that hold as much, of the one whose last turn is
// longest ago. A client's own items go in order of arrival. So however many items others have
// waiting, a client that holds nothing waits for one turn of each of them at most. No lock.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/check.h"

namespace idefics {

template <typename Item>
class FairQueue {
  struct Turn {
    int64_t number = 0;
    int64_t arrival = 0;
    auto operator<=>(const Turn&) const = default;
  };

 public:
  struct Taken {
    std::string client;
    Item item;
    Turn last_turn;
  };

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // Items of the client.
  size_t NumOf(const std::string& client) const {
    const auto line = lines_.find(client);
    return line == lines_.end() ? 0 : line->second.items.size();
  }
  // Of the client that has most.
  size_t longest_line() const {
    size_t longest = 0;
    for (const auto& [client, line] : lines_) longest = std::max(longest, line.items.size());
    return longest;
  }

  // A client of which nothing waited stands behind all others but the one that had the last turn.
  void Push(const std::string& client, Item item) {
    const Turn none{turns_ - 1, ++arrivals_};
    lines_.try_emplace(client, Line{none, {}}).first->second.items.push_back(std::move(item));
    ++size_;
  }

  // The next one; it is its client's turn. `held(client)` → how much that holds now. REQUIRES: not
  // empty.
  template <typename Held>
  Taken Take(const Held& held) {
    IDEFICS_CHECK(!empty());
    const auto order = [&](const auto& line) {
      return std::tuple(held(line.first), line.second.last_turn);
    };
    const auto next =
        std::min_element(lines_.begin(), lines_.end(),
                         [&](const auto& a, const auto& b) { return order(a) < order(b); });
    Line& line = next->second;
    Taken taken{next->first, std::move(line.items.front()), line.last_turn};
    line.items.pop_front();
    line.last_turn = {++turns_, ++arrivals_};
    --size_;
    if (line.items.empty()) lines_.erase(next);
    return taken;
  }

  // As if the item that was taken last had not been.
  void PutBack(Taken taken) {
    Line& line = lines_[taken.client];
    line.last_turn = taken.last_turn;
    line.items.push_front(std::move(taken.item));
    ++size_;
    --turns_;
  }

  // All items for which `is_wanted` is true, out of turn.
  template <typename IsWanted>
  std::vector<Item> TakeIf(const IsWanted& is_wanted) {
    std::vector<Item> taken;
    for (auto line = lines_.begin(); line != lines_.end();) {
      std::deque<Item>& items = line->second.items;
      const auto wanted = std::stable_partition(items.begin(), items.end(),
                                                [&](const Item& item) { return !is_wanted(item); });
      std::move(wanted, items.end(), std::back_inserter(taken));
      items.erase(wanted, items.end());
      line = items.empty() ? lines_.erase(line) : std::next(line);
    }
    size_ -= taken.size();
    return taken;
  }

 private:
  struct Line {
    Turn last_turn;
    std::deque<Item> items;  // never empty
  };

  std::map<std::string, Line> lines_;
  size_t size_ = 0;
  int64_t turns_ = 0;
  int64_t arrivals_ = 0;
};

}  // namespace idefics

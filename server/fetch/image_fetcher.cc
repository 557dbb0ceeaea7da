// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/image_fetcher.h"

#include <strings.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <utility>

#include "server/fetch/client_span.h"
#include "server/fetch/data_uri.h"
#include "server/fetch/outbound.h"

namespace idefics {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr long kMaxRedirects = 10;
constexpr long kMaxHostConnections = 8;
constexpr const char* kFilePrefix = "file:";

bool IsFile(const std::string& reference) {
  return strncasecmp(reference.c_str(), kFilePrefix, std::strlen(kFilePrefix)) == 0;
}

// One download. Lives until its easy handle is out of the multi handle.
struct Transfer {
  std::string url;
  int item = 0;  // the first of the request's images that has this URL
  const FetchOptions* options = nullptr;
  AddressGuard guard;
  EasyHandle easy;
  HeaderLines headers;
  ClientSpan span;
  std::vector<uint8_t> body;
  ByteBudget::Share memory;  // for `body`
  uint64_t* sum = nullptr;   // of all bodies of the request
  bool too_large = false;
  bool too_many_bytes = false;  // with those of the others
  bool no_memory = false;
  bool done = false;
  const steady_clock::time_point begun = steady_clock::now();
  steady_clock::time_point last_byte{};  // or when it was connected; unset before
  CURLcode code = CURLE_OK;
};

// How a download ended, and what its request is told.
struct TransferEnd {
  FetchOutcome outcome;
  Status status;
};

// Of all images of a request, as they are without their compression.
uint64_t MostBytesTogether(const FetchOptions& options) {
  constexpr uint64_t kTogether = 256ULL << 20;
  return std::max(kTogether, options.max_bytes);
}

// The bytes, with the share that counts them.
ImageBytes Held(std::vector<uint8_t> bytes, ByteBudget::Share memory) {
  struct Holder {
    std::vector<uint8_t> bytes;
    ByteBudget::Share memory;
  };
  auto holder = std::make_shared<Holder>(Holder{std::move(bytes), std::move(memory)});
  return {holder, &holder->bytes};
}

Status NoMemory() {
  return {ErrorCode::kFetchFailed,
          "the server holds as many bytes as it may (--memory-budget); try again"};
}

size_t OnBytes(char* bytes, size_t, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (transfer.body.size() + count > transfer.options->max_bytes) {
    transfer.too_large = true;
    return 0;
  }
  *transfer.sum += count;
  transfer.too_many_bytes = *transfer.sum > MostBytesTogether(*transfer.options);
  transfer.no_memory = !transfer.memory.Grow(count);
  if (transfer.too_many_bytes || transfer.no_memory) return 0;
  transfer.body.insert(transfer.body.end(), bytes, bytes + count);
  if (FetchMetrics* metrics = transfer.options->metrics) metrics->CountBytes(count);
  transfer.last_byte = steady_clock::now();
  return count;
}

int OnConnected(void* user, char*, char*, int, int) {
  static_cast<Transfer*>(user)->last_byte = steady_clock::now();
  return CURL_PREREQFUNC_OK;
}

size_t OnHeader(char*, size_t, size_t count, void* user) {
  static_cast<Transfer*>(user)->last_byte = steady_clock::now();
  return count;
}

void Configure(Transfer& transfer) {
  const FetchOptions& options = *transfer.options;
  transfer.guard.reach = options.allow_private ? Reach::kAny : Reach::kPublic;
  if (!options.hosts.empty()) transfer.guard.hosts = &options.hosts;
  transfer.easy = MakeOutbound(
      {transfer.url, options.user_agent, kMaxRedirects, options.total_time}, &transfer.guard);
  CURL* easy = transfer.easy.get();
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, OnBytes);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(options.connect_time.count()));
  // Not LOW_SPEED_TIME: it judges a mean of five seconds, and so starts five seconds late.
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, OnConnected);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(options.max_bytes));
  transfer.span.AddHeaders(/*with_state=*/false, &transfer.headers);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers.get());
}

TransferEnd NotInTime(const Transfer& transfer) {
  return {FetchOutcome::kTimeout,
          {ErrorCode::kFetchFailed, "image URL '" + ShownUrl(transfer.url) +
                                        "' did not answer in time (--connect-timeout, "
                                        "--fetch-timeout)"}};
}

Status NotListed(const std::string& url) {
  return {ErrorCode::kForbiddenUrl,
          "image URL '" + ShownUrl(url) + "' leads to a host that --image-hosts does not name"};
}

// Of one that curl did not bring to an answer.
TransferEnd BrokenEndOf(const Transfer& transfer, const std::string& what) {
  const bool allow_private = transfer.options->allow_private;
  if (transfer.guard.unlisted) return {FetchOutcome::kDenied, NotListed(transfer.url)};
  // One sentence for both: it does not tell which names a private network has.
  const bool unknown = transfer.code == CURLE_COULDNT_RESOLVE_HOST && !allow_private;
  if (transfer.guard.denied || unknown) {
    return {unknown ? FetchOutcome::kNetwork : FetchOutcome::kDenied,
            {ErrorCode::kForbiddenUrl,
             what + (allow_private
                         ? "leads to a metadata address, which is never fetched"
                         : "leads to no public address; --allow-private-urls permits addresses "
                           "that are not public")}};
  }
  switch (transfer.code) {
    case CURLE_OPERATION_TIMEDOUT:
      return NotInTime(transfer);
    case CURLE_TOO_MANY_REDIRECTS:
      return {FetchOutcome::kHttpError,
              {ErrorCode::kFetchFailed,
               what + "redirects more than " + std::to_string(kMaxRedirects) + " times"}};
    case CURLE_UNSUPPORTED_PROTOCOL:
      return {FetchOutcome::kDenied,
              {ErrorCode::kForbiddenUrl, what + "redirects to something else than http and https"}};
    default:
      return {FetchOutcome::kNetwork,
              {ErrorCode::kFetchFailed,
               what + "cannot be fetched: " + curl_easy_strerror(transfer.code)}};
  }
}

TransferEnd EndOf(const Transfer& transfer) {
  const std::string what = "image URL '" + ShownUrl(transfer.url) + "' ";
  const FetchOptions& options = *transfer.options;
  if (transfer.too_large || transfer.code == CURLE_FILESIZE_EXCEEDED) {
    return {FetchOutcome::kTooLarge,
            Status::TooLarge(what + "gives more than " + std::to_string(options.max_bytes) +
                             " bytes, the limit of --max-image-bytes")};
  }
  if (transfer.no_memory) return {FetchOutcome::kTooLarge, NoMemory()};
  if (transfer.too_many_bytes) {
    return {FetchOutcome::kTooLarge,
            Status::TooLarge("the images of the request have more than " +
                             std::to_string(MostBytesTogether(options)) + " bytes together")};
  }
  const bool answered = transfer.code == CURLE_OK || transfer.code == CURLE_HTTP_RETURNED_ERROR;
  if (!answered) return BrokenEndOf(transfer, what);
  long status = 0;
  curl_easy_getinfo(transfer.easy.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status >= 200 && status < 300) return {FetchOutcome::kOk, Status::Ok()};
  return {FetchOutcome::kHttpError,
          {ErrorCode::kFetchFailed, what + "answered with HTTP status " + std::to_string(status)}};
}

// Runs all transfers on the calling thread. Stops at the first failure.
class Batch {
 public:
  Batch(const FetchOptions& options, const SpanParent& parent)
      : options_(options), parent_(parent), multi_(MakeMulti()) {
    curl_multi_setopt(multi_.get(), CURLMOPT_MAX_HOST_CONNECTIONS, kMaxHostConnections);
  }
  ~Batch() {
    for (const auto& transfer : transfers_) {
      curl_multi_remove_handle(multi_.get(), transfer->easy.get());
      if (!transfer->done) Close(*transfer, {left_, {ErrorCode::kCanceled, ""}});
    }
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  Status Add(const std::string& url, int item) {
    Status allowed = CheckUrl(url);
    if (allowed.ok() && !options_.hosts.empty() && !options_.hosts.Holds(HostOf(url))) {
      allowed = NotListed(url);
    }
    if (!allowed.ok()) {
      if (options_.metrics != nullptr) options_.metrics->CountEnd(FetchOutcome::kDenied, {});
      return allowed;
    }
    auto transfer = std::make_unique<Transfer>();
    transfer->url = url;
    transfer->item = item;
    transfer->options = &options_;
    transfer->memory = ByteBudget::Share(options_.memory);
    transfer->sum = &sum_;
    transfer->span = ClientSpan(parent_, "GET", url);
    transfer->span.Note("url.full", url.substr(0, url.find_first_of("?#")));
    Configure(*transfer);
    curl_multi_add_handle(multi_.get(), transfer->easy.get());
    transfers_.push_back(std::move(transfer));
    return Status::Ok();
  }

  Status Run(const std::stop_token& stop) {
    const std::stop_callback wake(stop, [this] { curl_multi_wakeup(multi_.get()); });
    const auto deadline = steady_clock::now() + options_.total_time;
    for (int running = 1; running > 0;) {
      if (stop.stop_requested()) return {ErrorCode::kCanceled, "canceled while fetching images"};
      if (steady_clock::now() > deadline) {
        left_ = FetchOutcome::kTimeout;
        return {ErrorCode::kFetchFailed, "the images did not arrive in time (--fetch-timeout)"};
      }
      curl_multi_perform(multi_.get(), &running);
      RETURN_IF_ERROR(TakeFinished());
      RETURN_IF_ERROR(CheckSilence());
      constexpr int kPollMs = 200;
      if (running > 0) curl_multi_poll(multi_.get(), nullptr, 0, kPollMs, nullptr);
    }
    return Status::Ok();
  }

  ImageBytes TakeBody(const std::string& url) {
    for (const auto& transfer : transfers_) {
      if (transfer->url == url) {
        return Held(std::move(transfer->body), std::move(transfer->memory));
      }
    }
    return nullptr;
  }

 private:
  // It counts, and its span ends.
  void Close(Transfer& transfer, const TransferEnd& end) {
    transfer.done = true;
    if (options_.metrics != nullptr) {
      options_.metrics->CountEnd(end.outcome, steady_clock::now() - transfer.begun);
    }
    if (!transfer.span.wanted()) return;
    long code = 0;
    curl_easy_getinfo(transfer.easy.get(), CURLINFO_RESPONSE_CODE, &code);
    transfer.span.Note("http.response.body.size", static_cast<int64_t>(transfer.body.size()));
    transfer.span.End(code, end.status.ok() ? "" : ErrorCodeName(end.status.code()));
  }

  Status TakeFinished() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      char* user = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
      auto& transfer = *reinterpret_cast<Transfer*>(user);
      transfer.code = message->data.result;
      TransferEnd end = EndOf(transfer);
      Close(transfer, end);
      RETURN_IF_ERROR(end.status.WithItem(transfer.item));
    }
    return Status::Ok();
  }

  // Until it is connected CURLOPT_CONNECTTIMEOUT counts.
  Status CheckSilence() {
    for (const auto& transfer : transfers_) {
      const bool connected = transfer->last_byte != steady_clock::time_point{};
      if (!transfer->done && connected &&
          steady_clock::now() - transfer->last_byte > options_.connect_time) {
        TransferEnd end = NotInTime(*transfer);
        Close(*transfer, end);
        return end.status.WithItem(transfer->item);
      }
    }
    return Status::Ok();
  }

  const FetchOptions& options_;
  const SpanParent& parent_;
  uint64_t sum_ = 0;                             // of all bodies
  FetchOutcome left_ = FetchOutcome::kCanceled;  // of those that go on when the batch ends
  MultiHandle multi_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
};

}  // namespace

ImageFetcher::ImageFetcher(FetchOptions options) : options_(std::move(options)) {}

Result<ImageBytes> ImageFetcher::ReadFile(const std::string& reference) const {
  if (!options_.file_root) {
    return Status(ErrorCode::kForbiddenUrl,
                  "a file: image is read by the command line only; send a data URI");
  }
  std::string path = reference.substr(std::strlen(kFilePrefix));
  if (path.rfind("//", 0) == 0) path.erase(0, 2);  // file:///a/b
  const std::filesystem::path full = *options_.file_root / path;
  std::ifstream in(full, std::ios::binary);
  std::error_code ignored;
  if (!in || std::filesystem::is_directory(full, ignored)) {
    return Status::InvalidInput("image file '" + full.string() + "' cannot be read: " +
                                (in ? "it is a folder" : std::strerror(errno)));
  }
  std::vector<uint8_t> bytes;
  std::array<char, 65536> chunk;
  while (in.read(chunk.data(), chunk.size()), in.gcount() > 0) {
    bytes.insert(bytes.end(), chunk.data(), chunk.data() + in.gcount());
    if (bytes.size() > options_.max_bytes) {
      return Status::TooLarge("image file '" + full.string() + "' has more than " +
                              std::to_string(options_.max_bytes) +
                              " bytes, the limit of --max-image-bytes");
    }
  }
  return std::make_shared<const std::vector<uint8_t>>(std::move(bytes));
}

Result<std::vector<ImageBytes>> ImageFetcher::Fetch(std::span<const std::string> references,
                                                    std::stop_token stop,
                                                    const SpanParent& parent) {
  std::map<std::string, ImageBytes> images;  // nullptr: being downloaded
  std::optional<Batch> batch;                // only for downloads
  const auto begin = [&](const std::string& reference, int item) -> Status {
    if (IsDataUri(reference)) {
      ASSIGN_OR_RETURN(auto bytes, DecodeDataUri(reference, options_.max_bytes));
      ByteBudget::Share memory(options_.memory);
      if (!memory.Grow(bytes.size())) return NoMemory();
      images[reference] = Held(std::move(bytes), std::move(memory));
    } else if (IsFile(reference)) {
      ASSIGN_OR_RETURN(images[reference], ReadFile(reference));
    } else {
      if (!batch) batch.emplace(options_, parent);
      RETURN_IF_ERROR(batch->Add(reference, item));
      images[reference] = nullptr;
    }
    return Status::Ok();
  };
  for (size_t i = 0; i < references.size(); ++i) {
    if (images.count(references[i]) != 0) continue;
    const auto item = static_cast<int>(i);
    RETURN_IF_ERROR(begin(references[i], item).WithItem(item));
  }
  if (batch) RETURN_IF_ERROR(batch->Run(stop));
  std::vector<ImageBytes> result;
  for (const std::string& reference : references) {
    ImageBytes& bytes = images[reference];
    if (bytes == nullptr) bytes = batch->TakeBody(reference);
    result.push_back(bytes);
  }
  return result;
}

}  // namespace idefics

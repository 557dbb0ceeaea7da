// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/certificates.h"

#include <curl/curl.h>

#include <cstdlib>

namespace idefics {

void TrustCertificatesOfEnvironment(void* easy) {
  const char* file = std::getenv("SSL_CERT_FILE");
  if (file != nullptr && *file != '\0') curl_easy_setopt(easy, CURLOPT_CAINFO, file);
  const char* folder = std::getenv("SSL_CERT_DIR");
  if (folder != nullptr && *folder != '\0') curl_easy_setopt(easy, CURLOPT_CAPATH, folder);
}

}  // namespace idefics

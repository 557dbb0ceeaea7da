// SPDX-License-Identifier: Apache-2.0
// Whom outgoing TLS connections trust.
#pragma once

namespace idefics {

// SSL_CERT_FILE and SSL_CERT_DIR, which OpenSSL's other users obey and libcurl does not. `easy`: a
// CURL*.
void TrustCertificatesOfEnvironment(void* easy);

}  // namespace idefics

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is in the image, as CycloneDX (JSON), for scanners.
#   sbom.sh pins cpu|cuda    what the build compiles in or copies, a line each: NAME VERSION PURL.
#                            In the build stage; needs scripts/environment.sh and its folders.
#   sbom.sh document FILE    the document: the lines of FILE and every package of dpkg.
set -euo pipefail

pins() {
  . "$(dirname "$0")/../scripts/environment.sh"
  echo "cpp-httplib ${HTTPLIB_DIR##*-} pkg:github/yhirose/cpp-httplib@v${HTTPLIB_DIR##*-}"
  for package in nlohmann-json3-dev libcli11-dev; do  # headers only
    version=$(dpkg-query --show --showformat='${Version}' $package)
    echo "$package $version pkg:deb/debian/$package@$version"
  done
  # The wheels whose libraries docker/collect_runtime.sh copies.
  for record in "$PYTHON_ENV"/lib/python3*/site-packages/*.dist-info; do
    wheel=${record##*/} && wheel=${wheel%.dist-info}
    case $wheel in
      torch-* | nvidia_cuda_runtime-* | nvidia_cuda_cupti-*) ;;
      nvidia_*) [ "$1" = cuda ] || continue ;;
      *) continue ;;
    esac
    echo "${wheel%-*} ${wheel##*-} pkg:pypi/$(echo "${wheel%-*}" | tr _ -)@${wheel##*-}"
  done
}

packages() {
  dpkg-query --show --showformat='${Package} ${Version} pkg:deb/debian/${Package}@${Version}?arch=${Architecture}\n'
}

document() {
  version=$(sed -n 's/^cog-idefics //p' "${VERSION_FILE:-VERSION}")
  { cat "$1" && packages; } | sort -u | awk -v version="$version" '
    function quoted(text) { gsub(/[\\"]/, "\\\\&", text); return "\"" text "\"" }
    BEGIN {
      print "{\"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.5\", \"version\": 1,"
      print " \"metadata\": {\"component\": {\"type\": \"application\", \"name\": \"cog-idefics\"," \
            " \"version\": " quoted(version) "}},"
      printf " \"components\": ["
    }
    {
      # A plus is a space to those who read addresses.
      gsub(/\+/, "%2B", $3); gsub(/~/, "%7E", $3)
      printf "%s\n  {\"type\": \"library\", \"name\": %s, \"version\": %s, \"purl\": %s}", \
             (NR > 1 ? "," : ""), quoted($1), quoted($2), quoted($3)
    }
    END { print "\n]}" }'
}

case ${1:-} in
  pins) pins "${2:?sbom.sh pins needs cpu or cuda}" ;;
  document) document "${2:?sbom.sh document needs the file of pins}" ;;
  *) echo "sbom.sh: use pins or document FILE" >&2 && exit 2 ;;
esac

// SPDX-License-Identifier: Apache-2.0
// `idefics-server inspect --cpu`: which kernels this CPU runs, and why. Exit code 0, or 1 with one
// sentence on `err` where IDEFICS_CPU asks for what is not there.
#pragma once

#include <ostream>

namespace idefics {

int PrintCpuReport(std::ostream& out, std::ostream& err);

}  // namespace idefics

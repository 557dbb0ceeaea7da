// SPDX-License-Identifier: Apache-2.0
#include "server/cli/cpu_report.h"

#include <iomanip>

#include "predictor/ops/cpu/instruction_sets.h"

namespace idefics {

int PrintCpuReport(std::ostream& out, std::ostream& err) {
  const InstructionSetChoice choice = ChooseInstructionSet();
  if (choice.set == nullptr) {
    err << "idefics-server: " << choice.why << "\n";
    return 1;
  }
  out << "linears: " << choice.set->name << " kernels (" << choice.why << ")\n"
      << "attention, norms, activations: compiled for " << CloneLevel() << "\n"
      << "\nsets, best first; " << kCpuVariable << "=NAME asks for one of them\n";
  for (const InstructionSet& set : InstructionSets()) {
    const char mark = &set == choice.set ? '*' : ' ';
    out << mark << ' ' << std::left << std::setw(13) << set.name
        << (set.Usable() ? set.products : "this CPU lacks " + set.Missing()) << "\n";
  }
  return 0;
}

}  // namespace idefics

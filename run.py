# SPDX-License-Identifier: Apache-2.0
"""The signature of a prediction, for Cog tools that read it without running it.

The image's server is the C++ program idefics-server; `idefics-server --print-openapi` prints the
whole schema, of which this is the part that the original predictor had.
"""

from cog import BaseRunner, Input, Path


class Runner(BaseRunner):
    def run(
        self,
        image: Path = Input(description="Image to show the model."),
        text: str = Input(description="Question or instruction about the image."),
        max_new_tokens: int = Input(description="Upper bound on generated tokens.",
                                    default=512, ge=8, le=1024),
        repetition_penalty: float = Input(
            description="Penalty on tokens that already occurred; 1.0 disables it.",
            default=1.0, ge=0.01, le=5.0),
        decoding_strategy: str = Input(description="How the next token is picked.",
                                       default="Greedy", choices=["Greedy", "Top P Sampling"]),
        temperature: float = Input(
            description="Softmax temperature; used by Top P Sampling only.",
            default=0.4, ge=0.0, le=5.0),
        top_p: float = Input(description="Nucleus mass; used by Top P Sampling only.",
                             default=0.8, ge=0.01, le=0.99),
    ) -> str:
        """Refuses: Python does not serve this image."""
        raise RuntimeError("this image answers predictions with idefics-server, not with Python: "
                           "start it by its own command")

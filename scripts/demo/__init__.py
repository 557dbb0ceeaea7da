# SPDX-License-Identifier: Apache-2.0
"""Parts of scripts/train_demo.py: the rendered world, its questions, the model and its training."""

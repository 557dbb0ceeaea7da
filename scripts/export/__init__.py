# SPDX-License-Identifier: Apache-2.0
"""Turns a Hugging Face IDEFICS checkpoint folder into a bundle
(docs/architecture.md#the-bundle)."""

"""Texts that a model goes on with, and how likely it finds given ones.

The answer to a prompt is, by definition, what it is alone, in a batch of one. A batch of many computes the same sums in
another order, so that its logits differ in the last bits (some 1e-6 in fp32); that turns a decision only where two
candidates are closer than that. Each way to decide watches for such near ties (`choice`, `beams`), and the generator
answers the prompts that had one again, alone. So neither the size of a batch nor who else is in it changes an answer.
"""

from llmcore.models.generation.endings import Reason
from llmcore.models.generation.generator import Answer, Generated, Generator

__all__ = ["Answer", "Generated", "Generator", "Reason"]

"""Labelled sets from files: read, put into a task's columns, checked, divided and published."""

from llmcore.tasks.labelled.look import looked_at
from llmcore.tasks.labelled.publish import LabelledData, publish_labelled_data

__all__ = ["LabelledData", "looked_at", "publish_labelled_data"]

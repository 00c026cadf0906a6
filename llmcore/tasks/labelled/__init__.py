"""Labelled sets from files: read, put into a task's columns, checked, divided and published."""

from llmcore.tasks.labelled.publish import LabelledData, publish_labelled_data

__all__ = ["LabelledData", "publish_labelled_data"]

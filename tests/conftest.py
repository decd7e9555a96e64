"""Stands here so that pytest puts this folder on the path: tests in subfolders import `models`."""

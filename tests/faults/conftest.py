from tests.runs import expected, finished, project, unused

__all__ = ["expected", "finished", "project", "unused"]

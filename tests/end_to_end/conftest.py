from tests.runs import expected, finished, fresh, project

__all__ = ["expected", "finished", "fresh", "project"]

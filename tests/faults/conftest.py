from tests.luigid import luigid
from tests.runs import expected, finished, project, unused

__all__ = ["expected", "finished", "luigid", "project", "unused"]

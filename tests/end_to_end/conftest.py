from tests.batches import batch_folder
from tests.luigid import luigid
from tests.runs import expected, finished, project, unused

__all__ = ["batch_folder", "expected", "finished", "luigid", "project", "unused"]

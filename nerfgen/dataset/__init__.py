"""Pictures of new objects from many sides, with all that is known of them, for others to train on."""

from nerfgen.dataset.pose import PoseDistribution, parse_poses
from nerfgen.dataset.settings import Part, Settings, parse_part
from nerfgen.dataset.write import write_dataset

__all__ = ["Part", "PoseDistribution", "Settings", "parse_part", "parse_poses", "write_dataset"]

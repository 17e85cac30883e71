"""What is known of a class of objects, as data: one file a class. Imports no network."""

from nerfgen.objectclass.described import ObjectClass
from nerfgen.objectclass.read import CLASS_NAMES, class_from_text, class_text, object_class

__all__ = ["CLASS_NAMES", "ObjectClass", "class_from_text", "class_text", "object_class"]

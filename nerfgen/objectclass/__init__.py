"""What is known of a class of objects, as data: one file a class. Imports no network."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.objectclass.described import ObjectClass
    from nerfgen.objectclass.read import CLASS_NAMES, class_from_text, class_text, object_class, shipped_class

__getattr__ = lazy_imports(__name__)

__all__ = [
    "CLASS_NAMES",
    "ObjectClass",
    "class_from_text",
    "class_text",
    "object_class",
    "shipped_class",
]

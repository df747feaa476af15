"""Code run for its sizes alone."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class Sizes(TorchDispatchMode):
    """Whatever meets a tensor of the meta device goes there, too: which rows are visual is known, keys are not. What
    would be written into a tensor that is elsewhere fails."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        if any(isinstance(each, Tensor) and each.is_meta for each in tree_leaves(given)):
            if func._schema.is_mutable and not args[0].is_meta:
                raise NotImplementedError(
                    f"{func} writes what is not known into a tensor of {args[0].device}; make it where the keys are"
                )
            given = tree_map_only(Tensor, lambda each: each.to("meta"), given)
        args, kwargs = given
        return func(*args, **kwargs)

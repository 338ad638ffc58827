"""The names of a statement by scope: what is local, and what comes from elsewhere."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Act", "ActKind", "Import", "NameReference", "NameScope", "chain", "root"]


@dataclass(frozen=True, slots=True)
class Import:
    """The binding of one name by an import: a module (``name`` is None), or a member of it."""

    module: str
    name: str | None = None
    level: int = 0
    """Leading dots of a relative import."""


@dataclass(frozen=True, slots=True)
class NameReference:
    """A name that a statement takes from elsewhere, with the chain of attributes that it reads from it."""

    name: str
    attributes: tuple[str, ...] = ()
    imported: Import | None = None
    """The import inside the statement that binds the name; None for a name of the module."""


class ActKind(StrEnum):
    """The way in which a statement may alter something."""

    ALTER = "alter"
    """Alters the object itself, such as by an assignment to an attribute or an item."""
    METHOD = "method"
    """Calls a method of the object that probably alters it; the last attribute is the method."""
    CALL = "call"
    """Calls the object."""
    ARGUMENT = "argument"
    """Passes the object to a call."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that a statement may alter.

    Attributes:
        reference: the object; an empty name if it is the result of an expression.
        eager: True if the act happens when the module is imported, not when a function is called.
    """

    kind: ActKind
    reference: NameReference
    eager: bool


def chain(node: ast.AST) -> NameReference | None:
    """Return the name and the attributes read from it, if the expression has this form."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return NameReference(node.id, tuple(reversed(attributes))) if isinstance(node, ast.Name) else None


def root(node: ast.AST) -> NameReference:
    """Return the longest chain that an expression begins with: ``lib.a`` of ``lib.a[0].b()``."""
    while True:
        found = chain(node)
        if found is not None:
            return found
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Await | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "vars" and node.args:
            found = root(node.args[0])
            return NameReference(found.name, (*found.attributes, "__dict__"))
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return NameReference("")


@dataclass
class NameScope:
    """The names of a function, class or comprehension during the analysis."""

    parent: "NameScope | None" = None
    kind: str = "function"
    loads: set[NameReference] = field(default_factory=set)
    stores: set[str] = field(default_factory=set)
    imports: dict[str, list[Import]] = field(default_factory=dict)
    outer: set[str] = field(default_factory=set)
    parameters: set[str] = field(default_factory=set)
    aliases: dict[str, set[NameReference]] = field(default_factory=dict)
    """Local names by the objects that they may stand for."""
    acts: set[Act] = field(default_factory=set)

    def store(self, name: str, *, walrus: bool = False) -> None:
        """Bind a name; a walrus in a comprehension binds in the scope around it."""
        scope = self
        while walrus and scope.kind == "comprehension" and scope.parent:
            scope = scope.parent
        scope.stores.add(name)

    def unbound(self) -> Iterator[NameReference]:
        """Return the names that the scope takes from outside, with its own imports resolved.

        Names bound in a class body are not visible in its methods, so they do not hide outer names.
        """
        imports = {name: found for name, found in self.imports.items() if name not in self.outer}
        hidden = self.stores - self.outer if self.kind != "class" else set()
        for load in self.loads:
            if load.imported is None and load.name in imports:
                yield from (NameReference(load.name, load.attributes, found) for found in imports[load.name])
            elif load.imported is not None or load.name not in hidden:
                yield load
        for name in imports.keys() - {load.name for load in self.loads}:
            yield from (NameReference(name, (), found) for found in imports[name])

    def outer_acts(self) -> tuple[set[Act], bool]:
        """Return the acts on objects from outside the scope, and True if the scope alters a parameter."""
        acts: set[Act] = set()
        alters_parameter = False
        ahead = [(act, frozenset[str]()) for act in self.acts]
        while ahead:
            act, trail = ahead.pop()
            name = act.reference.name
            alters = act.kind in (ActKind.ALTER, ActKind.METHOD)
            if act.reference.imported is not None or name in self.outer:
                acts.add(act)
            elif name in self.imports:
                found = self.imports[name]
                acts |= {Act(act.kind, NameReference(name, act.reference.attributes, one), act.eager) for one in found}
            elif name in self.aliases and name not in trail:
                alters_parameter |= alters and name in self.parameters
                if alters:
                    others = self.aliases[name]
                    ahead += [(Act(ActKind.ALTER, other, act.eager), trail | {name}) for other in others]
            elif name in self.parameters:
                alters_parameter |= alters
            elif name not in self.stores:
                acts.add(act)
        return acts, alters_parameter

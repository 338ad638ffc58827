"""Ordinary changes of small programs. Each says if it changes what the function ``f`` of the file ``a.py`` may compute.

A program is a text of files, each after a line ``== name``; the text before the first such line is ``a.py``.
"""

from typing import NamedTuple

__all__ = ["CHANGES", "Change"]


class Change(NamedTuple):
    """The replacement of a text in a program."""

    name: str
    program: str
    old: str
    new: str
    changed: bool


def _changed(name: str, old: str, new: str, program: str) -> Change:
    return Change(name, program, old, new, changed=True)


def _same(name: str, old: str, new: str, program: str) -> Change:
    return Change(name, program, old, new, changed=False)


_REGISTRIES = [
    _changed(
        "singledispatch in the same file",
        "return 1",
        "return 2",
        """
from functools import singledispatch
@singledispatch
def size(x): return 0
@size.register(int)
def _(x): return 1
def f(): return size(3)
""",
    ),
    _changed(
        "singledispatch in another file",
        "return 1",
        "return 2",
        """
import base, impl
def f(): return base.size(3)
== base.py
from functools import singledispatch
@singledispatch
def size(x): return 0
== impl.py
from base import size
@size.register
def _(x: int): return 1
""",
    ),
    _changed(
        "singledispatch, registered by a call",
        "return 1",
        "return 2",
        """
from functools import singledispatch
@singledispatch
def size(x): return 0
def one(x): return 1
size.register(int, one)
def f(): return size(3)
""",
    ),
    _changed(
        "decorator registry in the same file",
        "return 1",
        "return 2",
        """
REG = {}
def register(name):
    def deco(g):
        REG[name] = g
        return g
    return deco
@register("g")
def g(): return 1
def f(): return REG["g"]()
""",
    ),
    _changed(
        "decorator registry in another file",
        "return 1",
        "return 2",
        """
import plugs
from registry import REG
def f(): return REG["g"]()
== registry.py
REG = {}
def register(g):
    REG[g.__name__] = g
    return g
== plugs.py
from registry import register
@register
def g(): return 1
""",
    ),
    _changed(
        "helper of a registered function",
        "HELP = 1",
        "HELP = 2",
        """
import plugs
from registry import REG
def f(): return REG["g"]()
== registry.py
REG = {}
def register(g):
    REG[g.__name__] = g
    return g
== plugs.py
from registry import register
HELP = 1
@register
def g(): return HELP
""",
    ),
    _changed(
        "registry object with a method",
        "return 1",
        "return 2",
        """
from registry import registry
import plugs
def f(): return registry.items["g"]()
== registry.py
class Registry:
    def __init__(self): self.items = {}
    def __call__(self, g):
        self.items[g.__name__] = g
        return g
    def add(self, g): return self(g)
registry = Registry()
== plugs.py
from registry import registry
@registry.add
def g(): return 1
""",
    ),
    _changed(
        "registry object that is called",
        "return 1",
        "return 2",
        """
class Registry:
    def __init__(self): self.items = {}
    def __call__(self, g): self.items[g.__name__] = g
registry = Registry()
def g(): return 1
registry(g)
def f(): return registry.items["g"]()
""",
    ),
    _changed(
        "class method as a decorator",
        "return 1",
        "return 2",
        """
class Registry:
    items = []
    @classmethod
    def add(cls, g):
        cls.items.append(g)
        return g
@Registry.add
def g(): return 1
def f(): return [g() for g in Registry.items]
""",
    ),
    _changed(
        "registered by append",
        "return 1",
        "return 2",
        "REG = []\ndef g(): return 1\nREG.append(g)\ndef f(): return REG[0]()\n",
    ),
    _changed(
        "registered by append in another file",
        "return 1",
        "return 2",
        """
import plugs, registry
def f(): return registry.REG[0]()
== registry.py
REG = []
== plugs.py
import registry
def g(): return 1
registry.REG.append(g)
""",
    ),
    _changed(
        "registered by an item",
        "return 1",
        "return 2",
        'REG = {}\ndef g(): return 1\nREG["a"] = g\ndef f(): return REG["a"]()\n',
    ),
    _changed(
        "registered in a loop",
        "return 1",
        "return 2",
        """
REG = {}
def g(): return 1
for each in (g,):
    REG[each.__name__] = each
def f(): return REG["g"]()
""",
    ),
    _changed(
        "registered inside if and try",
        "return 1",
        "return 2",
        """
import plugs, registry
def f(): return registry.REG[0]()
== registry.py
REG = []
== plugs.py
import registry, sys
def g(): return 1
if sys.version_info > (3,):
    try:
        registry.REG.append(g)
    finally:
        pass
""",
    ),
    _changed(
        "registered by a function in an assignment",
        "return 1",
        "return 2",
        """
REG = []
def register(g):
    REG.append(g)
    return len(REG)
def g(): return 1
token = register(g)
def f(): return REG[0]()
""",
    ),
    _changed(
        "registered by a helper that alters its argument",
        "return 1",
        "return 2",
        """
import plugs
from registry import REG
def f(): return REG["g"]()
== registry.py
REG = {}
def put(where, g): where[g.__name__] = g
== plugs.py
from registry import REG, put
def g(): return 1
put(REG, g)
""",
    ),
    _changed(
        "registered under an alias",
        "return 1",
        "return 2",
        "REG = []\nalias = [REG]\ndef g(): return 1\nalias[0].append(g)\ndef f(): return REG[0]()\n",
    ),
    _changed(
        "registered by what a function returns",
        "return 1",
        "return 2",
        "REG = []\ndef reg(): return REG\ndef g(): return 1\nreg().append(g)\ndef f(): return REG[0]()\n",
    ),
    _changed(
        "registered by a local alias",
        "return 1",
        "return 2",
        """
REG = {}
def register(g):
    found = REG.setdefault("all", [])
    found.append(g)
    return g
@register
def g(): return 1
def f(): return REG["all"][0]()
""",
    ),
    _changed(
        "extended in place",
        "X += [1]",
        "X += [2]",
        "X = []\nX += [1]\ndef f(): return X\n",
    ),
    _changed(
        "extended in place in another file",
        "X += [1]",
        "X += [2]",
        "import lib, plug\ndef f(): return lib.X\n== lib.py\nX = []\n== plug.py\nfrom lib import X\nX += [1]\n",
    ),
    _changed(
        "__init_subclass__",
        "v = 1",
        "v = 2",
        """
import plugs
from base import Base
def f(): return [c.v for c in Base.kinds]
== base.py
class Base:
    kinds = []
    def __init_subclass__(cls): Base.kinds.append(cls)
== plugs.py
from base import Base
class A(Base): v = 1
""",
    ),
    _changed(
        "metaclass",
        "v = 1",
        "v = 2",
        """
class Meta(type):
    kinds = []
    def __new__(mcs, *a):
        made = super().__new__(mcs, *a)
        Meta.kinds.append(made)
        return made
class Base(metaclass=Meta): v = 0
class A(Base): v = 1
def f(): return [c.v for c in Meta.kinds]
""",
    ),
    _changed(
        "__subclasses__",
        "v = 1",
        "v = 2",
        """
import plugs
from base import Base
def f(): return [c.v for c in Base.__subclasses__()]
== base.py
class Base: v = 0
== plugs.py
from base import Base
class A(Base): v = 1
""",
    ),
    _changed(
        "__subclasses__ of a subclass",
        "v = 1",
        "v = 2",
        """
class Base: v = 0
class A(Base): pass
class B(A): v = 1
def all_of(c): return [c, *(x for s in c.__subclasses__() for x in all_of(s))]
def f(): return [c.v for c in all_of(Base)]
""",
    ),
    _changed(
        "class decorator registers",
        "v = 1",
        "v = 2",
        """
REG = []
def keep(c):
    REG.append(c)
    return c
@keep
class A: v = 1
def f(): return REG[0].v
""",
    ),
    _changed(
        "function registered with a library",
        "return 1",
        "return 2",
        "import plug\ndef f(): return 0\n== plug.py\nfrom atexit import register\n@register\ndef g(): return 1\n",
    ),
    _same(
        "registry that is not reached",
        "return 1",
        "return 2",
        """
REG = {}
def register(g):
    REG[g.__name__] = g
    return g
@register
def g(): return 1
def f(): return 3
""",
    ),
    _same(
        "function under a decorator that alters nothing",
        "return 1",
        "return 2",
        """
import functools
def timed(g):
    @functools.wraps(g)
    def inner(*a): return g(*a)
    return inner
@timed
def other(): return 1
@timed
def f(): return 3
""",
    ),
    _same(
        "subclass of a shared base",
        "v = 1",
        "v = 2",
        "class Base:\n    def __init__(self): self.x = 1\nclass A(Base): v = 1\ndef f(): return Base().x\n",
    ),
    _same(
        "attribute of another class",
        "B.v = 1",
        "B.v = 2",
        "class A: v = 0\nclass B: v = 0\nB.v = 1\ndef f(): return A.v\n",
    ),
    _same(
        "value that a function computed without altering anything",
        "make(1)",
        "make(2)",
        "LOW = 1\ndef make(n):\n    rows = []\n    rows.append(n + LOW)\n    return rows\nTABLE = make(1)\ndef f(): return LOW\n",
    ),
]

_MODULES = [
    _changed(
        "module imported for its side effect",
        'os.environ["X_OF_TEST"] = "1"',
        'os.environ["X_OF_TEST"] = "2"',
        'import os, plug\ndef f(): return os.environ["X_OF_TEST"]\n== plug.py\nimport os\nos.environ["X_OF_TEST"] = "1"\n',
    ),
    _changed(
        "side effect of a module that an imported module imports",
        "set_option('display.width', 80)",
        "set_option('display.width', 81)",
        """
import first
def f(): return 1
== first.py
import second
== second.py
import pandas as pd
pd.set_option('display.width', 80)
""",
    ),
    _changed(
        "side effect of an import in a function",
        "setdefault('k', 1)",
        "setdefault('k', 2)",
        "import lib\ndef f():\n    import plug\n    return lib.D\n== lib.py\nD = {}\n== plug.py\nimport lib\nlib.D.setdefault('k', 1)\n",
    ),
    _changed(
        "side effect of a package",
        "lib.v = 1",
        "lib.v = 2",
        "import lib\nfrom pkg.sub import x\ndef f(): return lib.v\n== lib.py\nv = 0\n== pkg/__init__.py\nimport lib\nlib.v = 1\n== pkg/sub.py\nx = 1\n",
    ),
    _changed(
        "monkeypatch of a module",
        "return 1",
        "return 2",
        "import lib, patch\ndef f(): return lib.g()\n== lib.py\ndef g(): return 0\n== patch.py\nimport lib\ndef new(): return 1\nlib.g = new\n",
    ),
    _changed(
        "monkeypatch by setattr",
        "return 1",
        "return 2",
        "import lib, patch\ndef f(): return lib.g()\n== lib.py\ndef g(): return 0\n== patch.py\nimport lib\ndef new(): return 1\nsetattr(lib, 'g', new)\n",
    ),
    _changed(
        "monkeypatch by setattr under a computed name",
        "return 1",
        "return 2",
        "import lib, patch\ndef f(): return lib.g()\n== lib.py\ndef g(): return 0\n== patch.py\nimport lib\ndef new(): return 1\nfor n in ['g']: setattr(lib, n, new)\n",
    ),
    _changed(
        "monkeypatch by __dict__",
        "return 1",
        "return 2",
        "import lib, patch\ndef f(): return lib.g()\n== lib.py\ndef g(): return 0\n== patch.py\nimport lib\ndef new(): return 1\nlib.__dict__['g'] = new\n",
    ),
    _changed(
        "monkeypatch by vars",
        "return 1",
        "return 2",
        "import lib, patch\ndef f(): return lib.g()\n== lib.py\ndef g(): return 0\n== patch.py\nimport lib\ndef new(): return 1\nvars(lib)['g'] = new\n",
    ),
    _changed(
        "monkeypatch in a function that is called at import",
        "return 1",
        "return 2",
        """
import lib, patch
def f(): return lib.g()
== lib.py
def g(): return 0
== patch.py
import lib
def new(): return 1
def install():
    lib.g = new
install()
""",
    ),
    _changed(
        "monkeypatch of a library",
        "return 1",
        "return 2",
        "import patch, json\ndef f(): return json.of_test()\n== patch.py\nimport json\ndef new(): return 1\njson.of_test = new\n",
    ),
    _changed(
        "class attribute set elsewhere",
        "C.v = 2",
        "C.v = 3",
        "import patch\nfrom lib import C\ndef f(): return C.v\n== lib.py\nclass C: v = 1\n== patch.py\nfrom lib import C\nC.v = 2\n",
    ),
    _changed(
        "class attribute set in the same file",
        "C.v = 2",
        "C.v = 3",
        "class C: v = 1\nC.v = 2\ndef f(): return C.v\n",
    ),
    _changed(
        "attribute deleted",
        "del C.v",
        "pass",
        "class B: v = 0\nclass C(B): v = 1\ndel C.v\ndef f(): return C.v\n",
    ),
    _changed(
        "function attribute",
        "g.limit = 1",
        "g.limit = 2",
        "def g(): return g.limit\ng.limit = 1\ndef f(): return g()\n",
    ),
    _changed(
        "names made by globals() in a loop",
        "(1, 2)",
        "(1, 3)",
        "for i in (1, 2):\n    globals()[f'X{i}'] = i\ndef f(): return X1\n".replace("(1, 2)", "(1, 2)"),
    ),
    _changed(
        "PEP 562",
        "return 1",
        "return 2",
        "import lib\ndef f(): return lib.anything\n== lib.py\ndef __getattr__(name): return g()\ndef g(): return 1\n",
    ),
    _changed(
        "star import",
        "X = 1",
        "X = 2",
        "from lib import *\ndef f(): return X\n== lib.py\nX = 1\nY = 1\n",
    ),
    _same(
        "other name of a star import",
        "Y = 1",
        "Y = 2",
        "from lib import *\ndef f(): return X\n== lib.py\nX = 1\nY = 1\n",
    ),
    _changed(
        "relative import of a re-export",
        "X = 1",
        "X = 2",
        "from pkg.user import g\ndef f(): return g()\n== pkg/__init__.py\nfrom .lib import X\n== pkg/lib.py\nX = 1\n== pkg/user.py\nfrom . import X\ndef g(): return X\n",
    ),
    _changed(
        "namespace package",
        "X = 1",
        "X = 2",
        "from space.lib import X\ndef f(): return X\n== space/lib.py\nX = 1\n",
    ),
    _changed(
        "type-checking import's else",
        "X = 1",
        "X = 2",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    X = 0\nelse:\n    X = 1\ndef f(): return X\n",
    ),
    _same(
        "type-only import",
        "V = 1",
        "V = 2",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lib import V\ndef f(x: 'V' = 1): return x\n== lib.py\nV = 1\n",
    ),
    _same(
        "main block",
        "print(1)",
        "print(2)",
        "def f(): return 1\nif __name__ == '__main__':\n    print(1)\n",
    ),
    _same(
        "pure module that is imported and not used",
        "X = 1",
        "X = 2",
        "import lib\ndef f(): return 1\n== lib.py\nX = 1\ndef g(): return 2\nclass A: v = X\n",
    ),
    _same(
        "logger and other objects of libraries",
        "getLogger('a')",
        "getLogger('b')",
        "import lib\ndef f(): return 1\n== lib.py\nimport logging\nlog = logging.getLogger('a')\n",
    ),
    _changed(
        "import that falls back",
        "X = 1",
        "X = 2",
        "try:\n    from not_there_at_all import X\nexcept ImportError:\n    from lib import X\ndef f(): return X\n== lib.py\nX = 1\n",
    ),
]

_DYNAMIC = [
    _changed("globals() by name", "return 1", "return 2", "def g(): return 1\ndef f(n='g'): return globals()[n]()\n"),
    _changed(
        "getattr of a module",
        "return 1",
        "return 2",
        "import lib\ndef f(n='g'): return getattr(lib, n)()\n== lib.py\ndef g(): return 1\n",
    ),
    _changed(
        "__dict__ of a module",
        "return 1",
        "return 2",
        "import lib\ndef f(n='g'): return lib.__dict__[n]()\n== lib.py\ndef g(): return 1\n",
    ),
    _changed(
        "sys.modules",
        "return 1",
        "return 2",
        "import sys\ndef g(): return 1\ndef f(): return getattr(sys.modules[__name__], 'g')()\n",
    ),
    _changed("eval", "return 1", "return 2", "def g(): return 1\ndef f(): return eval('g()')\n"),
    _changed("exec", "return 1", "return 2", "def g(): return 1\ndef f():\n    exec('x = g()')\n"),
    _changed(
        "import_module of a constant",
        "X = 1",
        "X = 2",
        "import importlib\nNAME = 'lib'\ndef f(): return importlib.import_module(NAME).X\n== lib.py\nX = 1\n",
    ),
    _changed(
        "import_module under another name",
        "X = 1",
        "X = 2",
        "from importlib import import_module as load\ndef f(): return load('lib').X\n== lib.py\nX = 1\n",
    ),
    _changed(
        "import_module of a computed name",
        "X = 1",
        "X = 2",
        "import importlib\ndef f(n='one'): return importlib.import_module(f'plug_{n}').X\n== plug_one.py\nX = 1\n",
    ),
    _changed(
        "import_module of a computed relative name",
        "X = 1",
        "X = 2",
        "from pkg import load\ndef f(n='one'): return load(n).X\n== pkg/__init__.py\nimport importlib\ndef load(n): return importlib.import_module('.' + n, __package__)\n== pkg/one.py\nX = 1\n",
    ),
    _changed(
        "import_module of a name that a caller gives",
        "X = 1",
        "X = 2",
        "from tools import load\ndef f(): return load('lib').X\n== tools.py\nimport importlib\ndef load(n): return importlib.import_module(n)\n== lib.py\nX = 1\n",
    ),
    _changed(
        "import_module of a name from a table",
        "X = 1",
        "X = 2",
        "import importlib\nTABLE = {'k': 'pkg.lib'}\ndef f(k='k'): return importlib.import_module(TABLE[k]).X\n== pkg/__init__.py\n== pkg/lib.py\nX = 1\n",
    ),
    _changed("__import__", "X = 1", "X = 2", "def f(): return __import__('lib').X\n== lib.py\nX = 1\n"),
    _changed(
        "module:function for a helper",
        "return 1",
        "return 2",
        "from tools import load\ndef f(): return load('lib:g')()\n== tools.py\nimport pkgutil\ndef load(t): return pkgutil.resolve_name(t)\n== lib.py\ndef g(): return 1\n",
    ),
    _changed(
        "dotted path of a function",
        "return 1",
        "return 2",
        "from tools import load\ndef f(): return load({'_target_': 'pkg.lib.g'})\n== tools.py\ndef load(t): return t\n== pkg/__init__.py\n== pkg/lib.py\ndef g(): return 1\n",
    ),
    _same(
        "other function of a module:function",
        "return 3",
        "return 4",
        "def f(): return 'lib:g'\n== lib.py\ndef g(): return 1\ndef h(): return 3\n",
    ),
    _changed(
        "runpy",
        "print(1)",
        "print(2)",
        "import runpy\ndef f(): runpy.run_module('lib', run_name='__main__')\n== lib.py\nif __name__ == '__main__':\n    print(1)\n",
    ),
    _changed(
        "python -m as a list",
        "print(1)",
        "print(2)",
        "import subprocess, sys\ndef f(): subprocess.run([sys.executable, '-m', 'lib'])\n== lib.py\nif __name__ == '__main__':\n    print(1)\n",
    ),
    _changed(
        "python -m as a line",
        "return 1",
        "return 2",
        "import os\ndef f(): os.system('python -m pkg --flag')\n== pkg/__init__.py\n== pkg/__main__.py\nfrom pkg.lib import g\ng()\n== pkg/lib.py\ndef g(): return 1\n",
    ),
    _changed("df.query", "LIMIT = 1", "LIMIT = 2", "LIMIT = 1\ndef f(df): return df.query('a > @LIMIT')\n"),
    _changed(
        "df.eval",
        "LIMIT = 1",
        "LIMIT = 2",
        "from lib import LIMIT\ndef f(df): return df.eval('a + @LIMIT')\n== lib.py\nLIMIT = 1\n",
    ),
    _changed(
        "df.query of a constant",
        "LIMIT = 1",
        "LIMIT = 2",
        "LIMIT = 1\nQUERY = 'a > @LIMIT'\ndef f(df): return df.query(QUERY)\n",
    ),
    _changed("caller's frame", "X = 1", "X = 2", "import sys\nX = 1\ndef f(): return sys._getframe().f_globals['X']\n"),
    _same("method called eval", "X = 1", "X = 2", "X = 1\ndef f(model): return model.eval()\n"),
    _same("text that is like a file", "X = 1", "X = 2", "def f(): return open('lib.csv')\n== lib.py\nX = 1\n"),
    _changed(
        "operator.attrgetter on a module",
        "return 1",
        "return 2",
        "import operator, lib\ndef f(): return operator.attrgetter('g')(lib)()\n== lib.py\ndef g(): return 1\n",
    ),
]

_ORDER = [
    _changed("X, Y, X", "X = 1\nY = X\nX = 2", "X = 1\nX = 2\nY = X", "X = 1\nY = X\nX = 2\ndef f(): return Y\n"),
    _changed(
        "read by a function",
        "X = 1\nY = g()\nX = 2",
        "X = 1\nX = 2\nY = g()",
        "def g(): return X\nX = 1\nY = g()\nX = 2\ndef f(): return Y\n",
    ),
    _changed(
        "default argument",
        "X = 1\ndef f(y=X): return y\nX = 2",
        "X = 1\nX = 2\ndef f(y=X): return y",
        "X = 1\ndef f(y=X): return y\nX = 2\n",
    ),
    _changed(
        "later of two definitions",
        "def g(): return 1\ndef g(): return 2",
        "def g(): return 2\ndef g(): return 1",
        "def g(): return 1\ndef g(): return 2\ndef f(): return g()\n",
    ),
    _changed(
        "later of two imports",
        "from lib import g\nfrom other import g",
        "from other import g\nfrom lib import g",
        "from lib import g\nfrom other import g\ndef f(): return g()\n== lib.py\ndef g(): return 1\n== other.py\ndef g(): return 2\n",
    ),
    _changed(
        "import before and after a definition",
        "from lib import g\ndef g(): return 1",
        "def g(): return 1\nfrom lib import g",
        "from lib import g\ndef g(): return 1\ndef f(): return g()\n== lib.py\ndef g(): return 2\n",
    ),
    _changed(
        "star import before and after a definition",
        "from lib import *\ndef g(): return 1",
        "def g(): return 1\nfrom lib import *",
        "from lib import *\ndef g(): return 1\ndef f(): return g()\n== lib.py\ndef g(): return 2\n",
    ),
    _changed(
        "conditional definition",
        "FLAG = 1",
        "FLAG = 0",
        "FLAG = 1\nif FLAG:\n    def g(): return 1\nelse:\n    def g(): return 2\ndef f(): return g()\n",
    ),
    _changed(
        "conditional import",
        "FLAG = 1",
        "FLAG = 0",
        "FLAG = 1\nif FLAG:\n    from lib import g\nelse:\n    from other import g\ndef f(): return g()\n== lib.py\ndef g(): return 1\n== other.py\ndef g(): return 2\n",
    ),
    _changed(
        "two patches",
        "import one, two",
        "import two, one",
        "import lib\nimport one, two\ndef f(): return lib.v\n== lib.py\nv = 0\n== one.py\nimport lib\nlib.v = 1\n== two.py\nimport lib\nlib.v = 2\n",
    ),
    _changed(
        "value read before a patch",
        "import patch\nY = lib.v",
        "Y = lib.v\nimport patch",
        "import lib\nimport patch\nY = lib.v\ndef f(): return Y\n== lib.py\nv = 0\n== patch.py\nimport lib\nlib.v = 1\n",
    ),
    _changed(
        "order of additions",
        "R.append(1)\nR.append(2)",
        "R.append(2)\nR.append(1)",
        "R = []\nR.append(1)\nR.append(2)\ndef f(): return R\n",
    ),
    _changed(
        "deleted name",
        "X = 1\nX = 2\ndel X",
        "X = 1\ndel X\nX = 2",
        "X = 1\nX = 2\ndel X\nX = globals().get('X')\ndef f(): return X\n",
    ),
    _same("order of definitions", "A = 1\nB = 2", "B = 2\nA = 1", "A = 1\nB = 2\ndef f(): return A + B\n"),
    _same(
        "order of functions",
        "def g(): return 1\ndef h(): return 2",
        "def h(): return 2\ndef g(): return 1",
        "def g(): return 1\ndef h(): return 2\ndef f(): return g() + h()\n",
    ),
    _same(
        "order of pure imports",
        "import lib\nimport other",
        "import other\nimport lib",
        "import lib\nimport other\ndef f(): return lib.X + other.X\n== lib.py\nX = 1\n== other.py\nX = 2\n",
    ),
    _same(
        "definition moved before an unrelated rebinding",
        "X = 1\nX = 2\nZ = [3]",
        "Z = [3]\nX = 1\nX = 2",
        "X = 1\nX = 2\nZ = [3]\ndef f(): return X, Z\n",
    ),
]

_DOCUMENTATION = [
    _changed("__doc__ of a function", "Say hello", "Say bye", "def g():\n    'Say hello'\ndef f(): return g.__doc__\n"),
    _changed(
        "getdoc",
        "Say hello",
        "Say bye",
        "import inspect\ndef g():\n    'Say hello'\ndef f(): return inspect.getdoc(g)\n",
    ),
    _changed("own __doc__", "Say hello", "Say bye", "def f():\n    'Say hello'\n    return f.__doc__\n"),
    _changed(
        "__doc__ in a helper",
        "Say hello",
        "Say bye",
        "from lib import ask\ndef g():\n    'Say hello'\ndef f(): return ask(g)\n== lib.py\ndef ask(x): return x.__doc__\n",
    ),
    _changed("__doc__ of the module", "Say hello", "Say bye", "'Say hello'\ndef f(): return __doc__\n"),
    _changed(
        "decorator of a prompt library",
        "Say hello",
        "Say bye",
        "from jinja2 import pass_context as prompt\n@prompt\ndef g(x):\n    'Say hello'\ndef f(): return g\n",
    ),
    _changed(
        "function given to a library",
        "Say hello",
        "Say bye",
        "import typer\ndef main():\n    'Say hello'\ndef f(): typer.run(main)\n",
    ),
    _changed(
        "class of a prompt library",
        "Say hello",
        "Say bye",
        "import jinja2\nclass Ask(jinja2.Undefined):\n    'Say hello'\ndef f(): return Ask\n",
    ),
    _same("docstring of the function", "Say hello", "Say bye", "def f():\n    'Say hello'\n    return 1\n"),
    _same("docstring of a helper", "Say hello", "Say bye", "def g():\n    'Say hello'\ndef f(): return g()\n"),
    _same("docstring of a module", "Say hello", "Say bye", "'Say hello'\ndef f(): return 1\n"),
    _same(
        "docstring of a dataclass",
        "Say hello",
        "Say bye",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    'Say hello'\n    x: int = 1\ndef f(): return A()\n",
    ),
    _same(
        "indented docstring that counts",
        "'''Say\n    hello'''",
        "'''Say\n        hello'''",
        "def g():\n    '''Say\n    hello'''\ndef f(): return g.__doc__\n",
    ),
]

_MADE = "def make(v, w=None):\n    def f(): return v, w\n    return f\n"
_CAPTURED = [
    _changed("array", "np.array([1])", "np.array([2])", _MADE + "import numpy as np\nf = make(np.array([1]))\n"),
    _changed(
        "array's type", "np.array([1])", "np.array([1.0])", _MADE + "import numpy as np\nf = make(np.array([1]))\n"
    ),
    _changed("array's shape", "(2, 3)", "(3, 2)", _MADE + "import numpy as np\nf = make(np.zeros((2, 3)))\n"),
    _changed(
        "array of objects", "'a'", "'b'", _MADE + "import numpy as np\nf = make(np.array(['a', None], dtype=object))\n"
    ),
    _changed("NumPy scalar", "(1)", "(2)", _MADE + "import numpy as np\nf = make(np.int64(1))\n"),
    _changed("frame", "[1, 2]", "[1, 3]", _MADE + "import pandas as pd\nf = make(pd.DataFrame({'a': [1, 2]}))\n"),
    _changed("frame's column", "'a'", "'b'", _MADE + "import pandas as pd\nf = make(pd.DataFrame({'a': [1, 2]}))\n"),
    _changed(
        "series with a category",
        "'x', 'y'",
        "'x', 'z'",
        _MADE + "import pandas as pd\nf = make(pd.Series(['x', 'y'], dtype='category'))\n",
    ),
    _changed("index", "'x', 'y'", "'y', 'x'", _MADE + "import pandas as pd\nf = make(pd.Index(['x', 'y']))\n"),
    _changed("timestamp", "2024", "2025", _MADE + "import pandas as pd\nf = make(pd.Timestamp('2024-01-01'))\n"),
    _changed(
        "partial", "g, 1", "g, 2", _MADE + "import functools\ndef g(x): return x\nf = make(functools.partial(g, 1))\n"
    ),
    _changed(
        "partial's function",
        "return x",
        "return -x",
        _MADE + "import functools\ndef g(x): return x\nf = make(functools.partial(g, 1))\n",
    ),
    _changed(
        "bound method's object",
        "A(1)",
        "A(2)",
        _MADE + "class A:\n    def __init__(self, v): self.v = v\n    def m(self): return self.v\nf = make(A(1).m)\n",
    ),
    _changed(
        "bound method's source",
        "self.v\n",
        "-self.v\n",
        _MADE + "class A:\n    def __init__(self, v): self.v = v\n    def m(self): return self.v\nf = make(A(1).m)\n",
    ),
    _changed(
        "plain object", "A(1)", "A(2)", _MADE + "class A:\n    def __init__(self, v): self.v = v\nf = make(A(1))\n"
    ),
    _changed(
        "object with slots",
        "A(1)",
        "A(2)",
        _MADE + "class A:\n    __slots__ = ('v',)\n    def __init__(self, v): self.v = v\nf = make(A(1))\n",
    ),
    _changed(
        "dataclass",
        "A(1)",
        "A(2)",
        _MADE + "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass A:\n    v: int\nf = make(A(1))\n",
    ),
    _changed(
        "Pydantic model",
        "A(v=1)",
        "A(v=2)",
        _MADE + "import pydantic\nclass A(pydantic.BaseModel):\n    v: int\nf = make(A(v=1))\n",
    ),
    _changed(
        "enumeration",
        "make(E.A)",
        "make(E.B)",
        _MADE + "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\nf = make(E.A)\n",
    ),
    _changed("lambda", "lambda: 1", "lambda: 2", _MADE + "f = make(lambda: 1)\n"),
    _changed("one of two lambdas", "[0]", "[1]", _MADE + "f = make([lambda: 1, lambda: 2][0])\n"),
    _changed(
        "lambda's name", "lambda: LOW", "lambda: -LOW", "LOW = 1\n" + _MADE + "key = lambda: LOW\nf = make(key)\n"
    ),
    _changed("module", "X = 1", "X = 2", _MADE + "import lib\nf = make(lib)\n== lib.py\nX = 1\n"),
    _changed("order of a dict", "{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}", _MADE + "f = make({'a': 1, 'b': 2})\n"),
    _same("order of a set", "{'a', 'b', 'c'}", "{'c', 'b', 'a'}", _MADE + "f = make({'a', 'b', 'c'})\n"),
    _changed("set", "{'a', 'b'}", "{'a', 'c'}", _MADE + "f = make({'a', 'b'})\n"),
    _changed("pattern", "'a+'", "'b+'", _MADE + "import re\nf = make(re.compile('a+'))\n"),
    _changed("path", "'a'", "'b'", _MADE + "import pathlib\nf = make(pathlib.Path('a'))\n"),
    _changed("builtin of a library", "math.sin", "math.cos", _MADE + "import math\nf = make(math.sin)\n"),
    _changed("function of a library", "np.mean", "np.median", _MADE + "import numpy as np\nf = make(np.mean)\n"),
    _changed(
        "cached function",
        "return 1",
        "return 2",
        _MADE + "import functools\n@functools.cache\ndef g(): return 1\nf = make(g)\n",
    ),
    _changed(
        "nested function's cell",
        "outer(1)",
        "outer(2)",
        _MADE + "def outer(v):\n    def inner(): return v\n    return inner\nf = make(outer(1))\n",
    ),
    _changed(
        "default of a nested function",
        "make(1)",
        "make(2)",
        "def make(v):\n    def f(x=v): return x\n    return f\nf = make(1)\n",
    ),
    _changed(
        "default of a function defined in a loop", "(1, 2)", "(1, 3)", "for v in (1, 2):\n    def f(x=v): return x\n"
    ),
    _changed(
        "class made by a function",
        "make(1)",
        "make(2)",
        "def make(v):\n    class A:\n        def m(self): return v\n    def f(): return A().m()\n    return f\nf = make(1)\n",
    ),
    _changed(
        "object that refers to itself", "= 1", "= 2", _MADE + "class A: pass\na = A()\na.v = 1\na.me = a\nf = make(a)\n"
    ),
    _changed(
        "estimator", "alpha=1", "alpha=2", _MADE + "from sklearn.linear_model import Ridge\nf = make(Ridge(alpha=1))\n"
    ),
    _changed(
        "wrapper",
        "return 1",
        "return 2",
        "def silent(g):\n    def inner(): return g()\n    return inner\ndef raw(): return 1\nf = silent(raw)\n",
    ),
]

_HERE = "from pathlib import Path\nHERE = Path(__file__).parent\n"
_FILES = [
    _changed(
        "path of the module",
        "select 1",
        "select 2",
        "from pathlib import Path\ndef f(): return (Path(__file__).parent / 'q.sql').read_text()\n== q.sql\nselect 1\n",
    ),
    _changed(
        "constant path",
        "select 1",
        "select 2",
        _HERE + "SQL = (HERE / 'sql' / 'q.sql').read_text()\ndef f(): return SQL\n== sql/q.sql\nselect 1\n",
    ),
    _changed(
        "os.path",
        "select 1",
        "select 2",
        "import os\ndef f(): return open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'q.sql')).read()\n== q.sql\nselect 1\n",
    ),
    _changed(
        "text added to a path",
        "select 1",
        "select 2",
        "import os\nD = os.path.dirname(__file__)\ndef f(): return open(D + '/q.sql').read()\n== q.sql\nselect 1\n",
    ),
    _changed(
        "f-string", "select 1", "select 2", _HERE + "def f(): return open(f'{HERE}/q.sql').read()\n== q.sql\nselect 1\n"
    ),
    _changed(
        "importlib.resources.files",
        "select 1",
        "select 2",
        "from importlib.resources import files\ndef f(): return (files('pkg') / 'q.sql').read_text()\n== pkg/__init__.py\n== pkg/q.sql\nselect 1\n",
    ),
    _changed(
        "importlib.resources of a module",
        "select 1",
        "select 2",
        "from importlib import resources\nimport pkg\ndef f(): return resources.files(pkg).joinpath('sql', 'q.sql').read_text()\n== pkg/__init__.py\n== pkg/sql/q.sql\nselect 1\n",
    ),
    _changed(
        "importlib.resources.read_text",
        "select 1",
        "select 2",
        "from importlib import resources\ndef f(): return resources.read_text('pkg', 'q.sql')\n== pkg/__init__.py\n== pkg/q.sql\nselect 1\n",
    ),
    _changed(
        "pkgutil.get_data",
        "select 1",
        "select 2",
        "import pkgutil\ndef f(): return pkgutil.get_data('pkg', 'q.sql')\n== pkg/__init__.py\n== pkg/q.sql\nselect 1\n",
    ),
    _changed(
        "local variable",
        "select 1",
        "select 2",
        "from pathlib import Path\ndef f():\n    here = Path(__file__).resolve().parent\n    return (here / 'q.sql').read_text()\n== q.sql\nselect 1\n",
    ),
    _changed(
        "folder above",
        "a: 1",
        "a: 2",
        "from pkg.lib import g\ndef f(): return g()\n== pkg/__init__.py\n== pkg/lib.py\nfrom pathlib import Path\ndef g(): return (Path(__file__).parents[1] / 'c.yaml').read_text()\n== c.yaml\na: 1\n",
    ),
    _changed(
        "path of another module",
        "a: 1",
        "a: 2",
        "from pkg import HERE\ndef f(): return (HERE / 'c.yaml').read_text()\n== pkg/__init__.py\n"
        + _HERE
        + "== pkg/c.yaml\na: 1\n",
    ),
    _changed(
        "computed name",
        "a: 1",
        "a: 2",
        _HERE + "def f(n='c'): return (HERE / f'{n}.yaml').read_text()\n== c.yaml\na: 1\n",
    ),
    _changed(
        "computed name in a folder",
        "a: 1",
        "a: 2",
        _HERE + "def f(n='c'): return (HERE / 'conf' / n).read_text()\n== conf/deep/c.yaml\na: 1\n",
    ),
    _changed(
        "listed folder",
        "a: 1",
        "a: 2",
        _HERE
        + "CONF = HERE / 'conf'\ndef f(): return [p.read_text() for p in CONF.glob('*.yaml')]\n== conf/c.yaml\na: 1\n",
    ),
    _changed(
        "helper with a parameter",
        "select 1",
        "select 2",
        _HERE + "def read(name): return (HERE / name).read_text()\ndef f(): return read('q.sql')\n== q.sql\nselect 1\n",
    ),
    _changed(
        "with_name",
        "select 1",
        "select 2",
        "from pathlib import Path\ndef f(): return Path(__file__).with_name('q.sql').read_text()\n== q.sql\nselect 1\n",
    ),
    _changed(
        "script run by its path",
        "print(1)",
        "print(2)",
        _HERE + "import runpy\ndef f(): runpy.run_path(str(HERE / 'script.py'))\n== script.py\nprint(1)\n",
    ),
    _changed(
        "native library by its path",
        "code1",
        "code2",
        _HERE + "import ctypes\ndef f(): return ctypes.CDLL(str(HERE / 'fast.so'))\n== fast.so\ncode1\n",
    ),
    _changed(
        "native library beside a module",
        "code1",
        "code2",
        "def f():\n    import fast\n    return fast.x\n== fast.abi3.so\ncode1\n",
    ),
    _same(
        "other file of the folder",
        "select 1",
        "select 2",
        _HERE + "def f(): return (HERE / 'q.sql').read_text()\n== q.sql\nselect 0\n== other.sql\nselect 1\n",
    ),
    _same(
        "file of an asset that is not reached",
        "select 1",
        "select 2",
        _HERE + "def g(): return (HERE / 'q.sql').read_text()\ndef f(): return 1\n== q.sql\nselect 1\n",
    ),
    _same(
        "import path",
        "a: 1",
        "a: 2",
        "import sys, os\nsys.path.append(os.path.dirname(__file__))\ndef f(): return 1\n== c.yaml\na: 1\n",
    ),
    _same(
        "layout of a script run by its path",
        "print( 1 )",
        "print(1)  # one",
        _HERE + "import runpy\ndef f(): runpy.run_path(str(HERE / 'script.py'))\n== script.py\nprint( 1 )\n",
    ),
]

_PYTHON = [
    _changed(
        "inherited method",
        "return 1",
        "return 2",
        "from lib import Base\nclass A(Base): pass\ndef f(): return A().m()\n== lib.py\nclass Base:\n    def m(self): return 1\n",
    ),
    _changed(
        "property",
        "return 1",
        "return 2",
        "class A:\n    @property\n    def p(self): return 1\ndef f(): return A().p\n",
    ),
    _changed(
        "descriptor",
        "return 1",
        "return 2",
        "class D:\n    def __get__(self, o, t): return 1\nclass A: p = D()\ndef f(): return A().p\n",
    ),
    _changed("nested function", "return 1", "return 2", "def f():\n    def g(): return 1\n    return g()\n"),
    _changed("generic alias", "int", "str", "X = list[int]\ndef f(): return X\n"),
    _changed(
        "function defined in a loop",
        "X = 1",
        "X = 2",
        "X = 1\nTABLE = []\nfor i in range(2):\n    def g(): return X\n    TABLE.append(g)\ndef f(): return TABLE\n",
    ),
    _changed("match", "case 1", "case 2", "def f(x=1):\n    match x:\n        case 1: return 'a'\n"),
    _changed("walrus at the top", "(X := 1)", "(X := 2)", "if (X := 1):\n    pass\ndef f(): return X\n"),
    _changed("comprehension", "(1, 2)", "(1, 3)", "X = [n for n in (1, 2)]\ndef f(): return X\n"),
    _changed(
        "global statement",
        "X = 1",
        "X = 2",
        "X = 1\ndef g():\n    global X\n    X += 1\n    return X\ndef f(): return g()\n",
    ),
    _changed(
        "global set by a function at import",
        "X = 1",
        "X = 2",
        "X = 0\ndef setup():\n    global X\n    X = 1\nsetup()\ndef f(): return X\n",
    ),
    _changed("deleted", "del REG['a']", "pass", "REG = {'a': 1, 'b': 2}\ndel REG['a']\ndef f(): return REG\n"),
    _changed("augmented", "X *= 2", "X *= 3", "X = 1\nX *= 2\ndef f(): return X\n"),
    _changed("unpacked", "1, 2", "1, 3", "X, Y = 1, 2\ndef f(): return Y\n"),
    _changed(
        "with at the top",
        "X = 1",
        "X = 2",
        "import contextlib\nwith contextlib.suppress(ValueError):\n    X = 1\ndef f(): return X\n",
    ),
    _changed("lambda in a table", "lambda: 1", "lambda: 2", "TABLE = {'a': lambda: 1}\ndef f(): return TABLE['a']()\n"),
    _changed(
        "decorator's argument",
        "scaled(1)",
        "scaled(2)",
        "def scaled(n):\n    def deco(g):\n        def inner(): return g() * n\n        return inner\n    return deco\n@scaled(1)\ndef g(): return 1\ndef f(): return g()\n",
    ),
    _changed("class body reads a name", "X = 1", "X = 2", "X = 1\nclass A: v = X\ndef f(): return A.v\n"),
    _changed(
        "class keyword",
        "limit=1",
        "limit=2",
        "class Base:\n    def __init_subclass__(cls, limit): cls.limit = limit\nclass A(Base, limit=1): pass\ndef f(): return A.limit\n",
    ),
    _changed("number", "1.0", "1", "def f(): return 1.0\n"),
    _same("comment", "# old", "# new", "def f():\n    # old\n    return 1\n"),
    _same("layout", "g(1,2)", "g(\n        1,\n        2,\n    )", "def g(a, b): return a\ndef f(): return g(1,2)\n"),
    _same("quotes", "'x'", '"x"', "def f(): return 'x'\n"),
    _same("form of a number", "1000", "1_000", "def f(): return 1000\n"),
    _same("unrelated function", "return 2", "return 3", "def g(): return 2\ndef f(): return 1\n"),
    _same("unrelated constant", "Y = 2", "Y = 3", "X = 1\nY = 2\ndef f(): return X\n"),
    _same("unrelated class", "v = 2", "v = 3", "class A: v = 2\ndef f(): return 1\n"),
    _same("unrelated module", "X = 1", "X = 2", "def f(): return 1\n== lib.py\nX = 1\n"),
    _same("function added", "def f()", "def added(): return 2\ndef f()", "def f(): return 1\n"),
    _same(
        "Dagster's arguments",
        "'one'",
        "'two'",
        "import dagster as dg\n@dg.asset(description='one')\ndef other(): return 1\ndef f(): return 1\n",
    ),
    _same(
        "other asset",
        "return 1",
        "return 2",
        "import dagster as dg\n@dg.asset\ndef other(): return 1\ndef f(): return 3\n",
    ),
]

CHANGES = [*_REGISTRIES, *_MODULES, *_DYNAMIC, *_ORDER, *_DOCUMENTATION, *_CAPTURED, *_FILES, *_PYTHON]

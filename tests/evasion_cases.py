"""Ways to smuggle a call past a reader of pickles, by name, after public reports on scanners."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile

COMMAND = "touch canary"
_CODE = "__import__('pathlib').Path('canary').touch()"

# Callables by names that lists of bad names missed, with what to call them with.
CALLS = {
    "os.system": (COMMAND,),
    "posix.system": (COMMAND,),
    "nt.system": (COMMAND,),
    "os.popen": (COMMAND,),
    "os.execv": ("/bin/sh", ["sh", "-c", COMMAND]),
    "subprocess.Popen": (["touch", "canary"],),
    "subprocess.check_output": (["touch", "canary"],),
    "commands.getoutput": (COMMAND,),
    "pty.spawn": (["touch", "canary"],),
    "builtins.eval": (_CODE,),
    "builtins.exec": (_CODE,),
    "builtins.compile": (_CODE, "x", "exec"),
    "builtins.open": ("canary", "w"),
    "builtins.getattr": ("x", "upper"),
    "builtins.__import__": ("antigravity",),
    "builtins.breakpoint": (),
    "builtins.input": (),
    "builtins.map": (None, []),
    "__builtin__.eval": (_CODE,),
    "__builtin__.execfile": ("canary",),
    "io.open": ("canary", "w"),
    "io.FileIO": ("canary", "w"),
    "_io.FileIO": ("canary", "w"),
    "pathlib.Path.write_text": ("canary", "x"),
    "shutil.copyfile": ("a", "canary"),
    "shutil.rmtree": ("x",),
    "pip.main": (["install", "x"],),
    "pip._internal.main": (["install", "x"],),
    "ensurepip._run_pip": (["install", "x"],),
    "venv.create": ("canary",),
    "pkgutil.resolve_name": ("os:system",),
    "importlib.import_module": ("os",),
    "importlib.__import__": ("os",),
    "zipimport.zipimporter": ("x.zip",),
    "operator.attrgetter": ("system",),
    "operator.itemgetter": ("system",),
    "operator.methodcaller": ("system", COMMAND),
    "_operator.attrgetter": ("system",),
    "functools.partial": (None, COMMAND),
    "functools.reduce": (None, []),
    "marshal.loads": (b"",),
    "types.FunctionType": (None, {}),
    "types.CodeType": (0,),
    "code.InteractiveInterpreter.runcode": (_CODE,),
    "codeop.compile_command": (_CODE,),
    "runpy.run_path": ("canary",),
    "runpy._run_code": (_CODE, {}),
    "bdb.Bdb.run": (_CODE,),
    "pdb.run": (_CODE,),
    "cProfile.run": (_CODE,),
    "cProfile.runctx": (_CODE, {}, {}),
    "profile.run": (_CODE,),
    "trace.Trace.run": (_CODE,),
    "timeit.timeit": (_CODE,),
    "timeit.main": (["-n1", _CODE],),
    "doctest.debug_script": (_CODE,),
    "uuid._get_command_stdout": ("touch", "canary"),
    "imaplib.IMAP4_stream": (COMMAND,),
    "_pyrepl.pager.pipe_pager": ("x", COMMAND),
    "pydoc.pipepager": ("x", COMMAND),
    "_osx_support._read_output": (COMMAND,),
    "_osx_support._find_build_tool": (COMMAND,),
    "_aix_support._read_cmd_output": (COMMAND,),
    "mailcap.findmatch": ({}, "x"),
    "idlelib.pyshell.ModifiedInterpreter.runcode": (_CODE,),
    "idlelib.autocomplete.AutoComplete.get_entity": (_CODE,),
    "idlelib.calltip.Calltip.fetch_tip": (_CODE,),
    "lib2to3.pgen2.grammar.Grammar.loads": (b"",),
    "lib2to3.pgen2.pgen.ParserGenerator.make_label": (_CODE,),
    "asyncio.unix_events._UnixSubprocessTransport._start": (COMMAND,),
    "multiprocessing.util.spawnv_passfds": (b"/bin/sh", [], []),
    "logging.FileHandler": ("canary",),
    "logging.config.listen": (9999,),
    "distutils.file_util.write_file": ("canary", ["x"]),
    "distutils.spawn.spawn": (["touch", "canary"],),
    "ssl.get_server_certificate": (("127.0.0.1", 9),),
    "socket.create_connection": (("127.0.0.1", 9),),
    "urllib.request.urlopen": ("http://127.0.0.1:9",),
    "webbrowser.open": ("http://127.0.0.1:9",),
    "smtplib.SMTP": ("127.0.0.1",),
    "ctypes.CDLL": ("libc.so.6",),
    "pickle.loads": (b"cos\nsystem\n.",),
    "_pickle.loads": (b"cos\nsystem\n.",),
    "pickle.load": (None,),
    "dill.loads": (b"",),
    "cloudpickle.loads": (b"",),
    "joblib.load": ("x",),
    "pandas.read_pickle": ("x",),
    "numpy.load": ("x", None, True),
    "numpy.f2py.crackfortran.getlincoef": (_CODE, {}),
    "numpy.f2py.crackfortran._eval_length": (_CODE, {}),
    "numpy.testing._private.utils.runstring": (_CODE, {}),
    "torch.load": ("x",),
    "torch.serialization.load": ("x",),
    "torch.hub.load": ("x", "y"),
    "torch.jit.load": ("x",),
    "torch.utils.bottleneck.__main__.run_cprofile": (_CODE, {}),
    "torch.utils._config_module.ConfigModule.load_config": (b"",),
    "torch._dynamo.guards.GuardBuilder.get": (_CODE,),
    "torch._inductor.codecache.compile_file": (COMMAND,),
    "torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression": (_CODE,),
    "copyreg._reconstructor": (None, None, None),
    "copyreg.add_extension": ("os", "system", 1),
    "weakref.finalize": (None, None),
    "threading.Thread": (None, None),
    "sys.settrace": (None,),
    "_codecs.decode": (b"", "rot13"),
    "_codecs.encode": (_CODE, "rot13"),
    "collections.defaultdict": (None,),
    # Below modules that are on the list, or beside what is.
    "collections.abc.sys": (),
    "numpy.core.multiarray.fromfile": ("canary",),
    "numpy._core.multiarray.fromfile": ("canary",),
    "torch.storage.UntypedStorage.from_file": ("canary", True, 1),
    "torch._utils._import_dotted_name": ("os.system",),
    "torch_utils.persistence.import_hook": (None,),
    "torch_utils.persistence._src_to_module": (_CODE,),
    "dnnlib.util.call_func_by_name": ("os.system",),
    "dnnlib.util.get_obj_by_name": ("os.system",),
}

# Attributes of what is on the list: module, dotted name.
DOTTED = (
    ("collections", "OrderedDict.__init__.__globals__"),
    ("collections", "OrderedDict.fromkeys"),
    ("numpy.core.multiarray", "_reconstruct.__globals__"),
    ("numpy._core.multiarray", "_reconstruct.__self__.__dict__"),
    ("numpy", "dtype.__class__.mro"),
    ("numpy", "ndarray.tofile"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("torch.storage", "_load_from_bytes.__globals__"),
    ("torch", "FloatStorage.from_file"),
    ("torch", "Tensor.__reduce_ex__.__globals__"),
    ("torch_utils.persistence", "_reconstruct_persistent_obj.__globals__"),
    ("dnnlib.util", "EasyDict.__init__.__globals__"),
    ("torch.nn.modules.module", "torch.hub.load"),
    ("torch.nn.modules.container", "Sequential.__init__.__globals__"),
    ("training.triplane", "torch.load"),
    ("torch._dynamo.eval_frame", "OptimizedModule.__init__.__globals__"),
    ("", "os.system"),
    ("os.path", "os.system"),
)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module, name):
    return text(module) + text(name) + b"\x93"


def called(dotted):
    module, _, name = dotted.rpartition(".")
    arguments = pickle.dumps(CALLS[dotted], 2)[2:-1]
    return b"c" + f"{module}\n{name}\n".encode() + arguments + b"R"


SYSTEM = b"cos\nsystem\n" + text(COMMAND) + b"\x85R"
_ARGUMENT = text(COMMAND) + b"\x85"

# Where a reader could see something else than the machine: operations that leave one value.
OPERATIONS = {
    "memo: PUT among MEMOIZE": text("os") + b"\x940" + text("a") + b"q\x000" + b"h\x00"
    + text("system") + b"\x93" + _ARGUMENT + b"R",
    "memo: overwritten": text("collections") + b"q\x000" + text("os") + b"q\x000h\x00"
    + text("system") + b"\x93" + _ARGUMENT + b"R",
    "memo: read before written": b"h\x07" + text("system") + b"\x93" + _ARGUMENT + b"R",
    "STACK_GLOBAL of numbers": b"K\x01K\x02\x93" + _ARGUMENT + b"R",
    "STACK_GLOBAL of None": b"NN\x93" + _ARGUMENT + b"R",
    "STACK_GLOBAL of bytes": b"C\x02osC\x06system\x93" + _ARGUMENT + b"R",
    "STACK_GLOBAL with one name": text("system") + b"\x93" + _ARGUMENT + b"R",
    "STACK_GLOBAL through DUP": text("os") + b"2\x93",
    "EXT1": b"\x82\x01" + _ARGUMENT + b"R",
    "EXT2": b"\x83\x01\x00" + _ARGUMENT + b"R",
    "EXT4": b"\x84\x01\x00\x00\x00" + _ARGUMENT + b"R",
    "INST": b"(" + text(COMMAND) + b"ios\nsystem\n",
    "OBJ": b"(cos\nsystem\n" + text(COMMAND) + b"o",
    "NEWOBJ": b"cos\nsystem\n" + _ARGUMENT + b"\x81",
    "NEWOBJ_EX": b"csubprocess\nPopen\n" + _ARGUMENT + b"}" + text("shell") + b"\x88s\x92",
    "NEWOBJ_EX of what is listed": b"ccollections\nOrderedDict\n)}" + text("a") + b"Ns\x92",
    "BUILD of a global": b"ccollections\nOrderedDict\n}" + text("__setstate__") + b"Nsb",
    "BUILD of a list": b"]}" + text("__class__") + b"Nsb",
    "BUILD with slots": b"K\x01N}" + text("__class__") + b"Ns\x86b",
    "PERSID": b"Pos.system\n",
    "BINPERSID": text("os.system") + b"Q",
    "BINPERSID of a tuple": b"(" + text("module") + b"cos\nsystem\n" + text("x") * 2 + b"tQ",
    "FLOAT": b"F1.5\n",
    "INT": b"I01\n",
    "LONG": b"L5L\n",
    "STRING": b"S'os'\n",
    "UNICODE": b"Vos\n",
    "GET": b"Np0\ng0\n",
    "LIST": b"(l",
    "DICT": b"(d",
    "NEXT_BUFFER": b"\x97",
    "READONLY_BUFFER": b"N\x98",
    "a byte that is no operation": b"\xff",
    "a name over the line's end": b"cos\nsystem" + b"x" * 600 + b"\n",
    "the result popped": SYSTEM + b"0N",
    "the result popped by a mark": b"(" + SYSTEM + b"1N",
    "the result left below": SYSTEM + b"N",
    "a call of data": text("os.system") + _ARGUMENT + b"R",
    "a call of None": b"N" + _ARGUMENT + b"R",
    "a call of a call": b"ccollections\nOrderedDict\n)R" + _ARGUMENT + b"R",
    "arguments that are no tuple": b"ccollections\nOrderedDict\n]R",
    "a set of numbers that collide": b"\x8f(\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"\x90",
    "a call as key": b"}" + SYSTEM + b"Ns",
}  # fmt: skip

_MANY = 50_000
# What would take memory or time: whole files.
EXHAUSTION = {
    "BINBYTES8 of 2**63": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "BINUNICODE8 of 2**40": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b".",
    "BYTEARRAY8 of 2**40": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",
    "LONG4 of 2**31": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "LONG4 below zero": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "FRAME of 2**60": b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"N.",
    "protocol 255": b"\x80\xffN.",
    "a memo with gaps": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "tuples of tuples as key": b"\x80\x02)" + b"2\x86" * 60 + b"}2N.",
    "tuples of tuples hashed": b"\x80\x04}N" + b"\x85" + b"2\x86" * 60 + b"Ns.",
    "a frozenset of tuples": b"\x80\x04(N" + b"\x85" + b"2\x86" * 60 + b"\x91.",
    "keys that collide": b"\x80\x02}("
    + b"".join(b"\x8a\x09" + (i * (2**61 - 1)).to_bytes(9, "little") + b"N" for i in range(200))
    + b"u.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a dict in itself": b"\x80\x02}q\x00" + text("G_ema") + b"h\x00s.",
    "lists in lists": b"\x80\x02" + b"]" * _MANY + b"a" * (_MANY - 1) + b".",
    "tuples in tuples": b"\x80\x02N" + b"\x85" * _MANY + b".",
    "marks": b"\x80\x02" + b"(" * _MANY + b".",
    "values without end": b"\x80\x02" + b"N" * _MANY + b".",
    "one list again and again": b"\x80\x02](" + b"N" * 4000 + b"eq\x00"
    + b"ctorch\nSize\nh\x00\x85R0" * 4000 + b".",
    "one text encoded again and again": b"\x80\x02" + text("x" * 4000) + b"q\x00"
    + (b"c_codecs\nencode\nh\x00" + text("latin1") + b"\x86R0") * 4000 + b".",
}  # fmt: skip


def zipped(content, **changes):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", changes.get("compression", zipfile.ZIP_STORED)) as file:
        file.writestr(changes.get("name", "x/data.pkl"), content)
        file.writestr("x/byteorder", b"little")
    return out.getvalue()


def tarred(content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        info = tarfile.TarInfo("pickle")
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _pickle(operations):
    return b"\x80\x04" + operations + b"."


def files(good, good_arrays, good_state):
    """Whole files whose fault lies around the pickle.

    Args:
      good: a checkpoint that is read without complaint.
      good_arrays: the same for `read_array_pickle`.
      good_state: the same for `read_state_dict`.
    """
    attack = _pickle(SYSTEM)
    wrong_sum = zipped(attack).replace(b"touch canary", b"touch Canary", 1)
    return {
        "broken off after the call": attack[:-1],
        "rubbish after the call": attack[:-1] + b"\xff\xff.",
        "a second pickle behind the checkpoint": good + attack,
        "a second pickle behind the arrays": good_arrays + attack,
        "a second pickle behind the state dict": good_state + attack,
        "a second pickle after a newline": good_arrays + b"\n" + attack,
        "zeros behind the checkpoint": good + bytes(512),
        "the checkpoint behind the call": attack + good,
        "a ZIP named as a pickle": zipped(attack, name="x.pkl"),
        "a ZIP of torch": zipped(attack),
        "a ZIP with a wrong checksum": wrong_sum,
        "a compressed ZIP of torch": zipped(attack, compression=zipfile.ZIP_DEFLATED),
        "a ZIP behind a pickle": good_arrays + zipped(attack),
        "a ZIP without its end": zipped(attack)[:-30],
        "a tar": tarred(attack),
        "a 7z": b"7z\xbc\xaf\x27\x1c" + attack,
        "a gzip of a gzip": gzip.compress(gzip.compress(attack)),
        "a gzip bomb": gzip.compress(bytes(64 << 20)),
        "a gzip of gzips": b"".join(gzip.compress(part) for part in (attack[:9], attack[9:])),
    }

"""Files of `torch.save` made by hand, byte by byte: attacks, and random pickle programs."""

import io
import pickle
import struct
import zipfile
from functools import partial

import numpy as np

PROTO = pickle.PROTO + b"\x02"


def archive(program, storages=(), root="model", extra=(), **options):
    """A zip file of `torch.save` with a pickle and storages, as bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", options.get("compression", zipfile.ZIP_STORED)) as file:
        file.writestr(f"{root}/data.pkl", program)
        file.writestr(f"{root}/byteorder", options.get("order", "little"))
        for key, content in dict(storages).items():
            file.writestr(f"{root}/data/{key}", content)
        file.writestr(f"{root}/version", "3\n")
        for name, content in extra:
            file.writestr(name, content)
    return stream.getvalue()


def text(value):
    raw = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def number(value):
    if 0 <= value < 256:
        return pickle.BININT1 + bytes([value])
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG4 + struct.pack("<i", len(raw)) + raw


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def marked(*parts):
    return pickle.MARK + b"".join(parts)


def tuple_of(*parts):
    return marked(*parts) + pickle.TUPLE


def call(function, *args):
    return function + tuple_of(*args) + pickle.REDUCE


def globals_of(function):
    return call(name("builtins", "getattr"), function, text("__globals__"))


def built(target, state):
    return target + state + pickle.BUILD


def dictionary(**items):
    return pickle.EMPTY_DICT + marked(*(text(key) + value for key, value in items.items())) + pickle.SETITEMS


def storage(kind="FloatStorage", key="0", length=4, word="storage", place="cpu"):
    kind = kind if isinstance(kind, bytes) else name("torch", kind)
    ident = tuple_of(text(word), kind, text(key), text(place), number(length))
    return ident + pickle.BINPERSID


def tensor(store=None, offset=0, size=(4,), stride=(1,)):
    sizes, strides = (tuple_of(*map(number, numbers)) for numbers in (size, stride))
    hooks = call(name("collections", "OrderedDict"))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, store or storage(), number(offset), sizes, strides, pickle.NEWFALSE, hooks)


def whole(value):
    """A program that ends with a value."""
    return PROTO + value + pickle.STOP


def colliding(bits=18):
    """Integers in whose dictionary CPython looks for one, the first of them, at most of the others' places."""
    mask = 2**bits - 1
    filled = [7]  # a look-up goes on to five times the place and one, once the key's higher bits are used up
    while len(filled) < 0.64 * mask:
        filled.append((5 * filled[-1] + 1) & mask)
    order = {place: index for index, place in enumerate(filled)}

    def begins(key):
        """Where in `filled` a look-up's last part begins; the length of it if it ends before."""
        place = key & mask
        while key:
            if place not in order:
                return len(filled)
            key >>= 5
            place = (5 * place + key + 1) & mask
        return order.get(place, len(filled))

    return [min((filled[0] + (number << bits) for number in range(1, 4_000)), key=begins), *filled]


def attacks(canary):
    """Programs and files by name, each of which runs code, changes a class or takes memory where it is believed.

    Args:
        canary: A file that those which run code create.
    """
    touch = text(f"touch {canary}")
    code = text(f"open({str(canary)!r}, 'w').close()")
    system = name("posix", "system")
    evaluate = name("builtins", "eval")
    tensor_class, module_class = name("torch", "Tensor"), name("torch.nn.modules.module", "Module")
    model_class = name("ultralytics.nn.tasks", "DetectionModel")
    attribute, four = name("builtins", "getattr"), pickle.PROTO + b"\x04"
    a_model, modules = model_class + pickle.EMPTY_TUPLE + pickle.NEWOBJ, dictionary(forward=call(system, touch))
    its_globals = globals_of(call(attribute, model_class, text("forward")))
    utility, at, one = partial(name, "torch._utils"), (storage(), number(0)), tuple_of(number(1))
    rebuild_type = name("torch._tensor", "_rebuild_from_type_v2")
    floats = np.zeros(4, np.float32).tobytes()
    slow, *others = map(number, colliding())
    doubled = (pickle.DUP + pickle.TUPLE2) * 70
    programs = {
        "reduce_system": call(system, touch),
        "reduce_eval": call(evaluate, code),
        "reduce_python2_eval": call(name("__builtin__", "eval"), code),
        "reduce_exec": call(name("builtins", "exec"), code),
        "reduce_import": call(name("builtins", "__import__"), text("wicked_module")),
        "reduce_popen": call(name("subprocess", "Popen"), pickle.EMPTY_LIST + text("touch") + pickle.APPEND),
        "reduce_loads": call(name("pickle", "loads"), pickle.SHORT_BINBYTES + b"\x01."),
        "reduce_open": call(name("builtins", "open"), text(str(canary)), text("w")),
        "reduce_from_type": call(rebuild_type, system, tensor_class, tuple_of(touch), pickle.NONE),
        "reduce_from_type_state": call(
            rebuild_type, name("builtins", "str"), tensor_class, tuple_of(touch), dictionary(__class__=tensor_class)
        ),
        "reduce_reduced": call(call(attribute, name("posix", "__dict__"), text("system")), touch),
        "reduce_of_a_method": call(call(attribute, tensor_class, text("__setattr__")), tensor_class, text("x"), touch),
        "reduce_without_tuple": system + touch + pickle.REDUCE,
        "reduce_set_state": call(name("torch._utils", "_set_obj_state"), tensor_class, dictionary(evil=touch)),
        "reduce_reconstructor": call(name("copyreg", "_reconstructor"), module_class, tensor_class, pickle.NONE),
        "reduce_partial": call(call(name("functools", "partial"), system, touch)),
        "reduce_map": call(name("builtins", "list"), call(name("builtins", "map"), system, tuple_of(touch))),
        "reduce_hub": call(name("torch.hub", "load_state_dict_from_url"), text("http://127.0.0.1:9/x")),
        "reduce_load": call(name("torch.serialization", "load"), text(str(canary))),
        "reduce_constructor": call(model_class, text("yolov8n.yaml"), number(3), pickle.NONE, pickle.NEWFALSE),
        "reduce_torchvision": call(name("ultralytics.nn.modules.block", "TorchVision"), text("resnet18")),
        "newobj": system + tuple_of(touch) + pickle.NEWOBJ,
        "newobj_of_a_tensor": tensor_class + tuple_of(number(10)) + pickle.NEWOBJ,
        "newobj_ex": four + system + tuple_of(touch) + pickle.EMPTY_DICT + pickle.NEWOBJ_EX,
        "inst": pickle.MARK + touch + pickle.INST + b"posix\nsystem\n",
        "obj": pickle.MARK + system + touch + pickle.OBJ,
        "stack_global": four + call(text("posix") + text("system") + pickle.STACK_GLOBAL, touch),
        "stack_global_dotted": call(text("builtins") + text("eval.__self__.exec") + pickle.STACK_GLOBAL, code),
        "ext1": pickle.EXT1 + b"\x01",
        "ext2": pickle.EXT2 + b"\x01\x00",
        "ext4": pickle.EXT4 + b"\x01\x00\x00\x00",
        "next_buffer": pickle.NEXT_BUFFER + pickle.READONLY_BUFFER,
        "bytearray8": pickle.BYTEARRAY8 + struct.pack("<Q", 2**40),
        "build_a_class": built(tensor_class, dictionary(evil=touch, __repr__=system)),
        "build_a_module_class": built(module_class, dictionary(__call__=system, forward=system)),
        "build_slots": built(tensor_class, tuple_of(pickle.NONE, dictionary(evil=touch))),
        "build_setstate": built(a_model, dictionary(__setstate__=system)),
        "build_forward": built(a_model, dictionary(training=pickle.NEWTRUE, model=pickle.EMPTY_LIST, _modules=modules)),
        "build_parameter_class": built(name("torch.nn.parameter", "Parameter"), dictionary(evil=touch)),
        "build_a_list": built(pickle.EMPTY_LIST, dictionary(append=system)),
        "append_to_a_class": tensor_class + touch + pickle.APPEND,
        "appends_to_a_call": call(system, touch) + pickle.MARK + touch + pickle.APPENDS,
        "setitem_on_a_class": tensor_class + text("evil") + touch + pickle.SETITEM,
        "setitems_on_globals": globals_of(system) + marked(text("x"), touch) + pickle.SETITEMS,
        "additems_to_a_class": tensor_class + pickle.MARK + touch + pickle.ADDITEMS,
        "getattr_chain": call(call(attribute, its_globals, text("get")), text("__builtins__")),
        "setattr": call(name("builtins", "setattr"), tensor_class, text("evil"), touch),
        "persistent_text": pickle.PERSID + b"storage\n",
        "persistent_record": call(system, touch) + pickle.BINPERSID,
        "persistent_nested": storage(key="0") + pickle.BINPERSID,
        "persistent_kind_is_a_call": storage(kind=call(system, touch)),
        "persistent_of_a_file": tensor(storage(key="../../../etc/passwd")),
        "persistent_not_there": tensor(storage(key="7")),
        "storage_longer_than_the_entry": tensor(storage(length=10**9), size=(10**9,)),
        "storage_of_negative_length": tensor(storage(length=-4)),
        "storage_of_huge_length": tensor(storage(length=2**200)),
        "tensor_beyond_its_storage": tensor(size=(5,)),
        "tensor_with_offset_beyond": tensor(offset=4),
        "tensor_with_negative_offset": tensor(offset=-1),
        "tensor_with_negative_stride": tensor(stride=(-1,)),
        "tensor_with_huge_stride": tensor(stride=(2**62,)),
        "tensor_with_more_strides": tensor(stride=(1, 1)),
        "tensor_of_a_thousand_dimensions": tensor(size=(1,) * 1000, stride=(1,) * 1000),
        "tensor_of_a_class": tensor(tensor_class),
        "tensor_whose_size_is_a_call": call(
            utility("_rebuild_tensor_v2"), *at, call(system, touch), one, pickle.NEWFALSE, pickle.NONE
        ),
        "sparse_tensor": call(utility("_rebuild_sparse_tensor"), pickle.NONE, tuple_of(tensor(), tensor())),
        "quantised_tensor": call(utility("_rebuild_qtensor"), *at, tuple_of(number(4)), one, tuple_of(pickle.NONE)),
        "numpy_array": call(
            name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), tuple_of(number(0)), text("b")
        ),
        "unhashable_key": pickle.EMPTY_DICT + pickle.EMPTY_LIST + touch + pickle.SETITEM,
        "key_is_a_call": pickle.EMPTY_DICT + call(system, touch) + touch + pickle.SETITEM,
        "key_that_hashes_for_ever": pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + doubled + touch + pickle.SETITEM,
        "keys_that_collide": pickle.EMPTY_DICT
        + marked(*(key + pickle.NONE for key in others), (slow + pickle.NONE) * 400_000)
        + pickle.SETITEMS,
        "members_that_collide": four + pickle.EMPTY_SET + marked(*others, slow * 800_000) + pickle.ADDITEMS,
        "a_key_twice": pickle.EMPTY_DICT + (text("model") + pickle.NONE + pickle.SETITEM) * 2,
        "lists_that_double": pickle.EMPTY_LIST + doubled,
        "a_list_in_itself": pickle.EMPTY_LIST + pickle.DUP + pickle.APPEND,
        "a_record_in_itself": call(system, touch) + pickle.DUP + pickle.BUILD,
        "deep_lists": pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999,
        "deep_records": call(system, touch) + pickle.TUPLE1 * 100_000,
        "long_that_is_not_there": pickle.LONG4 + struct.pack("<i", 2**31 - 1) + b"1",
        "text_that_is_not_there": pickle.BINUNICODE8 + struct.pack("<Q", 2**62),
        "bytes_that_are_not_there": pickle.BINBYTES8 + struct.pack("<Q", 2**62),
        "frame_that_is_not_there": four + pickle.FRAME + struct.pack("<Q", 2**40),
        "memo_that_is_empty": pickle.LONG_BINGET + struct.pack("<I", 2**32 - 1),
        "memo_far_away": pickle.NONE + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1),
        "empty_stack": pickle.POP * 3,
        "stack_without_mark": pickle.TUPLE,
        "old_numbers": pickle.INT + b"9" * 5_000 + b"\n",
        "a_copy_asked_for_often": pickle.EMPTY_LIST
        + (marked(pickle.NONE * 100_000) + pickle.APPENDS + pickle.BINPUT + b"\x01")
        + (name("builtins", "set") + pickle.BINGET + b"\x01" + pickle.TUPLE1 + pickle.REDUCE + pickle.POP) * 1_000,
        "unknown_opcode": b"\xff",
        "unknown_protocol": pickle.PROTO + b"\x63",
    }
    files = {key: archive(whole(program), {"0": floats}) for key, program in programs.items()}
    working = whole(dictionary(model=pickle.NONE))
    files["compressed"] = archive(whole(pickle.NONE * 10**6), compression=zipfile.ZIP_DEFLATED)
    files["two_pickles"] = archive(working, extra=[("other/data.pkl", whole(call(system, touch)))])
    files["same_name_twice"] = archive(working, extra=[("model/version", "3"), ("model/data.pkl", working)])
    files["names_of_paths"] = archive(working, extra=[("../../canary", "x"), ("/etc/canary", "x")])
    files["big_endian"] = archive(working, order="big")
    files["torchscript"] = archive(working, extra=[("model/constants.pkl", working), ("model/code/x.py", "import os")])
    files["no_pickle"] = archive(working, root="deep/model")
    files["legacy"] = (
        pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2) + whole(call(system, touch))
    )
    files["plain_pickle"] = whole(call(system, touch))
    files["bare_bytes"] = b"\0" * 1_000
    whole_file = archive(working, {"0": floats})
    files["cut_off"] = whole_file[: len(whole_file) // 2]
    files["wrong_directory"] = whole_file.replace(b"model/version", b"model/versiom", 1)
    end = whole_file.rindex(b"PK\x05\x06")
    for key, at, value in (
        ("huge_directory", 12, b"\xfe\xff\xff\xff"),
        ("directory_elsewhere", 16, b"\xff\xff\xff\x7f"),
    ):
        files[key] = whole_file[: end + at] + value + whole_file[end + at + 4 :]
    files["overlapping"] = overlapping(whole_file)
    return files


def overlapping(file):
    """A file whose entries all begin where the first begins."""
    changed = bytearray(file)
    at = changed.find(b"PK\x01\x02")
    while at >= 0:
        changed[at + 42 : at + 46] = b"\0" * 4
        at = changed.find(b"PK\x01\x02", at + 1)
    return bytes(changed)


GLOBALS = [
    ("posix", "system"), ("builtins", "eval"), ("builtins", "getattr"), ("builtins", "set"), ("torch", "Tensor"),
    ("torch._tensor", "_rebuild_from_type_v2"), ("torch._utils", "_rebuild_parameter"), ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"), ("torch.nn.modules.module", "Module"), ("copyreg", "_reconstructor"),
    ("ultralytics.nn.tasks", "DetectionModel"), ("ultralytics.nn.modules.conv", "Conv"), ("pathlib", "PosixPath"),
    ("torch", "FloatStorage"), ("wicked_module", "Wicked"), ("torch.nn.parameter", "Parameter"), ("os", "mkdir"),
]  # fmt: skip
NO_VALUE = (
    pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.OBJ, pickle.APPEND, pickle.APPENDS,
    pickle.SETITEM, pickle.SETITEMS, pickle.ADDITEMS, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.LIST, pickle.DICT, pickle.FROZENSET, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.MEMOIZE,
    pickle.BINPERSID, pickle.STACK_GLOBAL, pickle.EXT1 + b"\x01", pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip
VALUES = (
    pickle.NONE, pickle.NEWTRUE, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_TUPLE, pickle.EMPTY_SET,
    text("model"), text("ema"), text("_modules"), text("yaml"), text("touch random_canary"), number(3), number(2**70),
    pickle.EMPTY_TUPLE + pickle.REDUCE, storage(), tensor(), pickle.BINFLOAT + struct.pack(">d", 0.5),
)  # fmt: skip


def random_program(rng):
    """A pickle of values, names and calls on a stack, in any order, with a few bytes of anything."""
    parts = [PROTO]
    for _ in range(rng.randint(1, 60)):
        kind = rng.random()
        if kind < 0.3:
            parts.append(rng.choice(VALUES))
        elif kind < 0.5:
            parts.append(name(*rng.choice(GLOBALS)))
        elif kind < 0.6:
            parts.append(call(name(*rng.choice(GLOBALS)), *rng.sample(VALUES, rng.randint(0, 3))))
        elif kind < 0.7:
            parts.append(rng.choice((pickle.BINPUT, pickle.BINGET)) + bytes([rng.randint(0, 3)]))
        elif kind < 0.97:
            parts.append(rng.choice(NO_VALUE))
        else:
            parts.append(rng.randbytes(rng.randint(1, 4)))
    if rng.random() < 0.5:  # as the model of a checkpoint
        parts = [PROTO, pickle.EMPTY_DICT, text("model"), *parts[1:], pickle.SETITEM]
    return b"".join(parts) + pickle.STOP

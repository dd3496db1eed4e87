from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnnounceTypesRequest(_message.Message):
    __slots__ = ("specs",)
    SPECS_FIELD_NUMBER: _ClassVar[int]
    specs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, specs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AnnounceTypesReply(_message.Message):
    __slots__ = ("pool", "types")
    POOL_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    pool: str
    types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pool: _Optional[str] = ..., types: _Optional[_Iterable[str]] = ...) -> None: ...

class PollTasksRequest(_message.Message):
    __slots__ = ("most", "wait_s", "begins")
    MOST_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    most: int
    wait_s: float
    begins: bool
    def __init__(self, most: _Optional[int] = ..., wait_s: _Optional[float] = ..., begins: _Optional[bool] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("lease", "lease_s", "run", "step", "node", "type", "attempt", "key", "repeat", "timeout_s", "config")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    lease: str
    lease_s: float
    run: str
    step: str
    node: str
    type: str
    attempt: int
    key: str
    repeat: str
    timeout_s: float
    config: bytes
    def __init__(self, lease: _Optional[str] = ..., lease_s: _Optional[float] = ..., run: _Optional[str] = ..., step: _Optional[str] = ..., node: _Optional[str] = ..., type: _Optional[str] = ..., attempt: _Optional[int] = ..., key: _Optional[str] = ..., repeat: _Optional[str] = ..., timeout_s: _Optional[float] = ..., config: _Optional[bytes] = ...) -> None: ...

class PollTasksReply(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ...) -> None: ...

class KeepLeasesRequest(_message.Message):
    __slots__ = ("leases",)
    LEASES_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, leases: _Optional[_Iterable[str]] = ...) -> None: ...

class GoneLease(_message.Message):
    __slots__ = ("lease", "why")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    lease: str
    why: str
    def __init__(self, lease: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class KeepLeasesReply(_message.Message):
    __slots__ = ("gone", "lease_s")
    GONE_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    gone: _containers.RepeatedCompositeFieldContainer[GoneLease]
    lease_s: float
    def __init__(self, gone: _Optional[_Iterable[_Union[GoneLease, _Mapping]]] = ..., lease_s: _Optional[float] = ...) -> None: ...

class BeginTaskRequest(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    def __init__(self, lease: _Optional[str] = ...) -> None: ...

class BeginTaskReply(_message.Message):
    __slots__ = ("begun",)
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    begun: bool
    def __init__(self, begun: _Optional[bool] = ...) -> None: ...

class FetchBlobRequest(_message.Message):
    __slots__ = ("lease", "sha256")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    lease: str
    sha256: str
    def __init__(self, lease: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class FetchBlobReply(_message.Message):
    __slots__ = ("content_type", "data")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    data: bytes
    def __init__(self, content_type: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Succeeded(_message.Message):
    __slots__ = ("output", "ports")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    ports: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, output: _Optional[bytes] = ..., ports: _Optional[_Iterable[str]] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("message", "retryable", "retry_after_s", "touched")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    TOUCHED_FIELD_NUMBER: _ClassVar[int]
    message: str
    retryable: bool
    retry_after_s: float
    touched: bool
    def __init__(self, message: _Optional[str] = ..., retryable: _Optional[bool] = ..., retry_after_s: _Optional[float] = ..., touched: _Optional[bool] = ...) -> None: ...

class InDoubt(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class LetGo(_message.Message):
    __slots__ = ("effect", "message")
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    effect: str
    message: str
    def __init__(self, effect: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class GaveBack(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportTaskRequest(_message.Message):
    __slots__ = ("lease", "succeeded", "failed", "in_doubt", "let_go", "gave_back")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    IN_DOUBT_FIELD_NUMBER: _ClassVar[int]
    LET_GO_FIELD_NUMBER: _ClassVar[int]
    GAVE_BACK_FIELD_NUMBER: _ClassVar[int]
    lease: str
    succeeded: Succeeded
    failed: Failed
    in_doubt: InDoubt
    let_go: LetGo
    gave_back: GaveBack
    def __init__(self, lease: _Optional[str] = ..., succeeded: _Optional[_Union[Succeeded, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., in_doubt: _Optional[_Union[InDoubt, _Mapping]] = ..., let_go: _Optional[_Union[LetGo, _Mapping]] = ..., gave_back: _Optional[_Union[GaveBack, _Mapping]] = ...) -> None: ...

class ReportTaskReply(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: str
    def __init__(self, result: _Optional[str] = ...) -> None: ...

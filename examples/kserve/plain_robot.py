"""A robot that knows nothing of parcelhub: stubs made from the public protocol, one frame, one answer.

pip install grpcio grpcio-tools
python -m grpc_tools.protoc -I examples/kserve --python_out=stubs --grpc_python_out=stubs open_inference_grpc.proto
python examples/kserve/plain_robot.py --stubs stubs --cell dock-7 frame.jpg
"""

from __future__ import annotations

import argparse
import importlib
import json
import struct
import sys
from pathlib import Path

import grpc


def main() -> int:
    """Ask once and print what came back as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frame", type=Path)
    parser.add_argument("--stubs", required=True)
    parser.add_argument("--cell", required=True)
    parser.add_argument("--server", default="127.0.0.1:8411")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    sys.path.insert(0, options.stubs)
    pb = importlib.import_module("open_inference_grpc_pb2")
    rpc = importlib.import_module("open_inference_grpc_pb2_grpc")

    data = options.frame.read_bytes()
    request = pb.ModelInferRequest(model_name="segmenter", id="frame-1")
    request.parameters["cell"].string_param = options.cell
    # After so many microseconds in the queue the server refuses rather than answer too late.
    request.parameters["timeout"].int64_param = int(options.seconds * 1e6)
    request.inputs.add(name="image", datatype="UINT8", shape=[1, len(data)])
    request.raw_input_contents.append(data)
    with grpc.insecure_channel(options.server) as channel:
        answer = rpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=options.seconds)
    outputs = dict(zip((tensor.name for tensor in answer.outputs), answer.raw_output_contents, strict=True))
    scores = outputs["scores"]
    print(
        json.dumps(
            {
                "served_by": outputs["served_by"].decode(),
                "request_id": outputs["request_id"].decode(),
                "size": list(struct.unpack("<2i", outputs["size"])),
                "labels": json.loads(outputs["labels"]),
                "scores": list(struct.unpack(f"<{len(scores) // 4}f", scores)),
                "masks": len(json.loads(outputs["masks"])),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

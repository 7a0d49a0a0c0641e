#!/bin/sh
# Serve from the official Triton container, with the files that `parcelhub serve` wrote (not tried by the project's tests).
#
#   DATA=/srv/parcelhub-data PROJECT=/srv/parcelhub ADMIN_KEY=$(cat /srv/parcelhub-data/triton/admin.key) \
#     sh examples/triton-container/serve.sh
#
# DATA is the hub's data folder, PROJECT a checkout. The container's Python installs our dependencies at its start.
set -eu
exec docker run --rm --shm-size=1g --stop-timeout 20 -p 8411:8001 -p 8410:8000 -p 8412:8002 \
  -v "$DATA/triton/models:/models:ro" -v "$DATA/serving:/serving:ro" -v "$DATA/telemetry:/telemetry" \
  -v "$PROJECT:/parcelhub:ro" \
  -e PYTHONPATH=/parcelhub -e PARCELHUB_SERVING=/serving -e PARCELHUB_TELEMETRY=/telemetry \
  -e GOMP_SPINCOUNT=5000 -e OPENBLAS_NUM_THREADS=1 -e ADMIN_KEY="$ADMIN_KEY" \
  nvcr.io/nvidia/tritonserver:25.02-py3 sh -c 'pip install --constraint /parcelhub/constraints.txt torch torchvision \
    transformers safetensors opencv-python-headless pycocotools && exec tritonserver --model-repository=/models \
    --model-control-mode=explicit --load-model=segmenter --exit-timeout-secs=10 \
    "--grpc-header-forward-pattern=(?i)authorization" \
    "--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:parcelhub-admin=$ADMIN_KEY"'

"""What a stranger's network may be made of: layers and their settings, functions, graph operations. What is not listed is refused.

Nothing here draws random numbers when it only answers, keeps state, loops, or touches a file; and no small number in a configuration
makes any of it take much time or memory before its sizes are known.
"""

from __future__ import annotations


def _set(text: str) -> set[str]:
    return set(text.split())


CONVOLUTION = (
    "filters kernel_size strides padding data_format dilation_rate groups activation use_bias kernel_initializer bias_initializer "
    "kernel_regularizer bias_regularizer kernel_constraint bias_constraint lora_rank lora_alpha"
)
DEPTHWISE = f"{CONVOLUTION} depth_multiplier depthwise_initializer depthwise_regularizer depthwise_constraint"
POINTWISE = " pointwise_initializer pointwise_regularizer pointwise_constraint"
POOL, REDUCE, MERGE = "pool_size padding strides data_format", "data_format keepdims", ""
SCALES = " ".join(f"{name}_{what}" for name in ("beta", "gamma") for what in ("initializer", "regularizer", "constraint"))
NORMAL = f"axis epsilon center scale {SCALES}"
RANDOM = "seed rng_type data_format"
ZOOMED = f"{RANDOM} factor height_factor width_factor fill_mode fill_value interpolation"

LAYERS = {
    name: _set(keys) | {"activity_regularizer"}
    for names, keys in {
        "InputLayer": "batch_input_shape batch_shape input_shape shape batch_size sparse ragged optional",
        "Dense": f"{CONVOLUTION} units quantization_config",
        "Activation": "activation",
        "Conv1D Conv2D": CONVOLUTION,
        "Conv2DTranspose": f"{CONVOLUTION} output_padding",
        "DepthwiseConv2D": DEPTHWISE,
        "SeparableConv2D": DEPTHWISE + POINTWISE,
        "MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D": POOL,
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalAveragePooling1D GlobalAveragePooling2D": REDUCE,
        "BatchNormalization": f"{NORMAL} momentum moving_mean_initializer moving_variance_initializer synchronized "
        "renorm renorm_clipping renorm_momentum",
        "LayerNormalization": f"{NORMAL} rms_scaling",
        "GroupNormalization": f"{NORMAL} groups",
        "UnitNormalization": "axis",
        "Dropout SpatialDropout1D SpatialDropout2D AlphaDropout GaussianDropout": "rate noise_shape seed rng_type data_format",
        "GaussianNoise": "stddev seed rng_type",
        "ActivityRegularization": "l1 l2",
        "Flatten": "data_format",
        "Reshape": "target_shape",
        "Permute": "dims",
        "RepeatVector": "n",
        "Cropping2D": "cropping data_format",
        "ZeroPadding2D": "padding data_format",
        "UpSampling2D": "size data_format interpolation",
        "Add Subtract Multiply Average Maximum Minimum Identity": MERGE,
        "Concatenate": "axis",
        "Dot": "axes normalize",
        "ReLU": "max_value negative_slope threshold",
        "LeakyReLU": "alpha negative_slope",
        "PReLU": "alpha_initializer alpha_regularizer alpha_constraint shared_axes",
        "ELU": "alpha",
        "ThresholdedReLU": "theta",
        "Softmax": "axis",
        "Rescaling": "scale offset",
        "Normalization": "axis mean variance invert",
        "Resizing": "height width interpolation crop_to_aspect_ratio pad_to_aspect_ratio fill_mode fill_value antialias data_format",
        "CenterCrop": "height width data_format",
        "RandomFlip": f"{RANDOM} mode",
        "RandomCrop": f"{RANDOM} height width",
        "RandomContrast RandomBrightness": f"{RANDOM} factor value_range",
        "RandomRotation RandomZoom RandomTranslation": ZOOMED,
        "MultiHeadAttention": "num_heads key_dim value_dim dropout use_bias output_shape attention_axes flash_attention seed use_gate "
        "kernel_initializer bias_initializer kernel_regularizer bias_regularizer kernel_constraint bias_constraint "
        "query_shape key_shape value_shape softmax_robust_masking sliding_window",
    }.items()
    for name in names.split()
}
"""Layer -> its settings, in Keras 2 or 3; beside those of every layer."""
EVERY = {"name", "trainable", "dtype", "batch_input_shape", "input_shape"}
UNUSED = {"lora_rank", "lora_alpha", "quantization_config", "query_shape", "key_shape", "value_shape", "seed", "rng_type"}
"""Settings that are left out: no network here needs them to answer. A quantised or adapted layer sets them, and is refused."""
MODELS = {"Functional", "Model", "Sequential"}
INSIDE = {"ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax"}
"""Layers that may stand in the place of an activation."""

INITIALIZERS = _set(
    "Zeros Ones Constant Identity RandomNormal RandomUniform TruncatedNormal VarianceScaling GlorotNormal GlorotUniform HeNormal HeUniform "
    "LecunNormal LecunUniform Orthogonal"
)
TRAINING = {
    "initializer": INITIALIZERS | {"".join("_" + c.lower() if c.isupper() else c for c in name)[1:] for name in INITIALIZERS},
    "regularizer": {"L1", "L2", "L1L2", "L1_L2", "OrthogonalRegularizer", "l1", "l2", "l1_l2"},
    "constraint": {"MaxNorm", "NonNeg", "UnitNorm", "MinMaxNorm", "RadialConstraint", "max_norm", "non_neg", "unit_norm", "min_max_norm"},
}
"""Last word of a setting that only training needs -> what may stand there. It is looked at, and left out."""
DTYPES = {"float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16", "uint8", "int32", "int64", "bool"}
ACTIVATIONS = _set(
    "linear relu relu6 leaky_relu elu selu gelu silu swish hard_sigmoid hard_silu hard_swish sigmoid log_sigmoid tanh softmax log_softmax "
    "softplus softsign exponential mish"
)
WORDS = DTYPES | _set(
    "same valid SAME VALID channels_last channels_first nearest bilinear bicubic area lanczos3 lanczos5 gaussian mitchellcubic constant "
    "reflect wrap symmetric CONSTANT REFLECT SYMMETRIC horizontal vertical horizontal_and_vertical NHWC tf"
)
"""The only texts that a setting or an argument may be."""
ARGUMENTS = {"training", "mask", "query", "value", "key", "attention_mask", "use_causal_mask"}
"""What a layer may be called with, beside its inputs."""

FUNCTIONS = {
    prefix + name
    for prefixes, names in {
        ("__operators__.",): "add getitem",
        ("math.", ""): "abs add subtract multiply divide truediv negative maximum minimum square sqrt rsqrt pow exp log sigmoid tanh erf "
        "softplus sign floor ceil round reduce_mean reduce_sum reduce_max reduce_min reciprocal divide_no_nan l2_normalize "
        "squared_difference add_n log1p expm1",
        ("nn.", "compat.v1.nn."): "relu relu6 elu selu gelu silu swish leaky_relu softmax log_softmax sigmoid tanh softplus softsign "
        "l2_normalize bias_add avg_pool avg_pool2d max_pool max_pool2d space_to_depth depth_to_space",
        (
            "",
            "compat.v1.",
        ): "transpose squeeze reshape concat expand_dims clip_by_value cast identity stop_gradient stack unstack split pad "
        "matmul reverse tile image.resize image.resize_nearest_neighbor image.resize_bilinear linalg.matmul linalg.normalize",
    }.items()
    for prefix in prefixes
    for name in names.split()
}
"""Functions of TensorFlow that Keras 2 may call on tensors (its TFOpLambda), by the names that it writes."""

OPERATIONS = {
    ("keras.src.ops." + module, name)
    for module, names in {
        "numpy": "Absolute Abs Add Subtract Multiply Divide TrueDivide Negative Maximum Minimum Square Sqrt Power Exp Expm1 Log Log1p Tanh "
        "Sign Floor Ceil Round Clip Mean Sum Max Min Reshape Transpose Squeeze ExpandDims Concatenate Stack Split Pad Matmul Flip Swapaxes "
        "Moveaxis GetItem Reciprocal",
        "nn": "Relu Relu6 Sigmoid LogSigmoid Softplus Softsign Silu LeakyRelu HardSigmoid HardSilu Elu Selu Gelu Softmax LogSoftmax "
        "MaxPool AveragePool SpaceToDepth DepthToSpace",
        "core": "Cast StopGradient",
        "math": "Rsqrt Erf",
        "image": "Resize",
    }.items()
    for name in names.split()
}
"""Module and class of Keras 3's operations on tensors."""

CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
GRAPH = _set(
    "Const Placeholder Identity IdentityN NoOp StopGradient PreventGradient EnsureShape Cast Shape ShapeN Size Rank "
    "Conv2D DepthwiseConv2dNative Conv2DBackpropInput MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum BiasAdd BiasAddV1 "
    "FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN MaxPool AvgPool Softmax LogSoftmax "
    "Add AddV2 AddN Sub Mul MulNoNan Div RealDiv DivNoNan FloorDiv FloorMod Maximum Minimum Neg Abs Sign Square SquaredDifference Sqrt "
    "Rsqrt Reciprocal Inv Pow Exp Expm1 Log Log1p Sin Cos Tanh Sigmoid Softplus Softsign Relu Relu6 LeakyRelu Elu Selu Erf Erfc Floor "
    "Ceil Round Rint ClipByValue Mean Sum Prod Max Min All Any ArgMax ArgMin Equal NotEqual Less LessEqual Greater GreaterEqual "
    "LogicalAnd LogicalOr LogicalNot Select SelectV2 Reshape Squeeze ExpandDims Transpose Pack Unpack ConcatV2 Split SplitV Slice "
    "StridedSlice Gather GatherV2 GatherNd Pad PadV2 MirrorPad Tile BroadcastTo BroadcastArgs Fill ZerosLike OnesLike Range ReverseV2 Roll "
    "SpaceToBatchND BatchToSpaceND SpaceToDepth DepthToSpace ResizeBilinear ResizeNearestNeighbor ResizeBicubic ResizeArea "
    "FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 "
    "QuantizeAndDequantizeV4"
)
"""Operations of a frozen graph: functions of their inputs and of nothing else, without loops."""

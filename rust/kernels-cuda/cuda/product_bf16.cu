// Products of bf16 weights, forward and backward.
#include "product_bf16.cuh"

KERNEL(THREADS) forward_bf16(Product p) { multiply<Form::Forward, Epilogue::Store, Bf16, float>(p); }
EXPORT(forward_bf16)
KERNEL(THREADS) swiglu_bf16(Product p) { multiply<Form::Forward, Epilogue::Swiglu, Bf16, bf16>(p); }
EXPORT(swiglu_bf16)
KERNEL(THREADS) input_bf16(Product p) { multiply<Form::Input, Epilogue::Store, Bf16, float>(p); }
EXPORT(input_bf16)
KERNEL(THREADS) weight_bf16(Product p) { multiply<Form::Weight, Epilogue::Store, Bf16, float>(p); }
EXPORT(weight_bf16)

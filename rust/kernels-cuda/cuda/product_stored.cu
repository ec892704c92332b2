// Products of weights in their files' formats, which become bf16 on their way to the tensor cores.
#include "product_bf16.cuh"

KERNEL(THREADS) forward_fp8(Product p) { multiply<Form::Forward, Epilogue::Store, Fp8, float>(p); }
EXPORT(forward_fp8)
KERNEL(THREADS) swiglu_fp8(Product p) { multiply<Form::Forward, Epilogue::Swiglu, Fp8, bf16>(p); }
EXPORT(swiglu_fp8)
KERNEL(THREADS) forward_q8_0(Product p) { multiply<Form::Forward, Epilogue::Store, Q8_0, float>(p); }
EXPORT(forward_q8_0)
KERNEL(THREADS) swiglu_q8_0(Product p) { multiply<Form::Forward, Epilogue::Swiglu, Q8_0, bf16>(p); }
EXPORT(swiglu_q8_0)
KERNEL(THREADS) forward_q4k(Product p) { multiply<Form::Forward, Epilogue::Store, Q4K, float>(p); }
EXPORT(forward_q4k)
KERNEL(THREADS) swiglu_q4k(Product p) { multiply<Form::Forward, Epilogue::Swiglu, Q4K, bf16>(p); }
EXPORT(swiglu_q4k)

// Rows of logits on a CPU: softmax, log-sum-exp and the gradient of cross entropy, each row visited once.
//
// Built against torch's stable ABI: one binary serves every later torch. Loops are written with vectors of
// 16 floats, which the compiler lowers to what each clone's instruction set has; the loader picks the clone
// for the processor at hand. No -ffast-math: it would switch off subnormal numbers in the whole process.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#ifdef FOR_EACH_PROCESSOR  // chosen by whoever compiles
#elif defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE inline __attribute__((always_inline))

namespace {

using torch::stable::Tensor;

constexpr int64_t LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef uint16_t BFloat16;

constexpr float NOTHING = -std::numeric_limits<float>::infinity();

template <class To, class From>
INLINE To reinterpret(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

INLINE Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof(values));
  return values;
}

INLINE Floats load(const BFloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return reinterpret<Floats>(__builtin_convertvector(halves, Bits) << 16);
}

INLINE void store(float* to, Floats values) { std::memcpy(to, &values, sizeof(values)); }

INLINE void store(BFloat16* to, Floats values) {  // to the nearest, ties to even; a NaN stays one
  const Bits bits = reinterpret<Bits>(values);
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Bits kept = values == values ? rounded : (Bits{} + 0x7fc0);
  const Halves halves = __builtin_convertvector(kept, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

template <class T>
INLINE Floats load_first(const T* from, int64_t count, T filler) {
  T values[LANES];
  std::fill_n(values, LANES, filler);
  std::memcpy(values, from, count * sizeof(T));
  return load(values);
}

template <class T>
INLINE void store_first(T* to, Floats values, int64_t count) {
  T all[LANES];
  store(all, values);
  std::memcpy(to, all, count * sizeof(T));
}

// e^x for x <= 88, relative error 2e-7: 2^n e^r with |r| <= ln(2)/2 and Cephes' polynomial. 0 below the
// smallest normal number; a NaN stays one.
INLINE Floats exponential(Floats x) {
  constexpr float TO_NEAREST = 12582912.0f;  // 1.5 * 2^23: its last bits hold the integer
  const Floats shifted = x * 1.44269504088896341f + TO_NEAREST;
  const Floats n = shifted - TO_NEAREST;
  const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Floats scale = reinterpret<Floats>((reinterpret<Bits>(shifted) + 127) << 23);
  const Ints underflows = x < -87.3f;
  return underflows ? Floats{} : p * scale;
}

INLINE float largest(Floats values) {
  float result = values[0];
  for (int64_t lane = 1; lane < LANES; ++lane) result = values[lane] > result ? values[lane] : result;
  return result;
}

INLINE float total(Floats values) {
  float result = 0;
  for (int64_t lane = 0; lane < LANES; ++lane) result += values[lane];
  return result;
}

// sums[j] = logits[j] + bias[j]; returns the largest. `sums` may be `logits`.
template <class T>
INLINE float add_bias(const T* logits, const float* bias, int64_t size, float* sums) {
  Floats peak = Floats{} + NOTHING;
  int64_t j = 0;
  for (; j + LANES <= size; j += LANES) {
    Floats x = load(logits + j);
    if (bias) x += load(bias + j);
    store(sums + j, x);
    peak = x > peak ? x : peak;
  }
  float result = largest(peak);
  if (j < size) {
    Floats x = load_first(logits + j, size - j, T{});
    if (bias) x += load_first(bias + j, size - j, 0.0f);
    store_first(sums + j, x, size - j);
  }
  for (; j < size; ++j) result = sums[j] > result ? sums[j] : result;
  return result;
}

// values[j] = e^(values[j] - shift); returns their sum.
INLINE float exponentials(float* values, int64_t size, float shift) {
  Floats sum{};
  int64_t j = 0;
  for (; j + LANES <= size; j += LANES) {
    const Floats e = exponential(load(values + j) - shift);
    store(values + j, e);
    sum += e;
  }
  if (j < size) {
    const Floats e = exponential(load_first(values + j, size - j, NOTHING) - shift);
    store_first(values + j, e, size - j);
    sum += e;
  }
  return total(sum);
}

template <class T>
INLINE void scale_into(const float* values, int64_t size, float factor, T* to) {
  int64_t j = 0;
  for (; j + LANES <= size; j += LANES) store(to + j, load(values + j) * factor);
  if (j < size) store_first(to + j, load_first(values + j, size - j, 0.0f) * factor, size - j);
}

// Where a row is worked on in fp32: an fp32 row in place, any other in a buffer of its thread's.
class Work {
 public:
  explicit Work(int64_t size) : buffer_(size) {}
  float* of(float* row) { return row; }
  float* of(BFloat16*) { return buffer_.data(); }
  float* buffer() { return buffer_.data(); }

 private:
  std::vector<float> buffer_;
};

template <class T>
struct Rows {
  T* data;
  int64_t stride, size;
  const float* bias;
  const int64_t* labels;

  T* row(int64_t i) const { return data + i * stride; }
  // The label's place in these columns, or -1 if it lies in others.
  int64_t label(int64_t i) const { return 0 <= labels[i] && labels[i] < size ? labels[i] : -1; }
};

struct Sums {  // log-sum-exp of a row so far: peak + log(sum)
  float *peaks, *sums, *label_logits;
};

template <class T>
INLINE void softmax_rows(const Rows<T>& rows, float* losses, int64_t begin, int64_t end) {
  Work work(rows.size);
  for (int64_t i = begin; i < end; ++i) {
    T* row = rows.row(i);
    float* x = work.of(row);
    const float peak = add_bias(row, rows.bias, rows.size, x);
    const float label_logit = x[rows.labels[i]];
    const float sum = exponentials(x, rows.size, peak);
    x[rows.labels[i]] -= sum;
    scale_into(x, rows.size, 1.0f / sum, row);
    losses[i] = std::log(sum) + (peak - label_logit);
  }
}

template <class T>
INLINE void log_sum_exp_rows(const Rows<T>& rows, const Sums& to, int64_t begin, int64_t end) {
  Work work(rows.size);
  float* x = work.buffer();
  for (int64_t i = begin; i < end; ++i) {
    const float peak = std::max(to.peaks[i], add_bias(rows.row(i), rows.bias, rows.size, x));
    const float shift = peak == NOTHING ? 0.0f : peak;  // nothing but -inf so far: the sum stays 0
    if (rows.label(i) >= 0) to.label_logits[i] = x[rows.label(i)];
    to.sums[i] = to.sums[i] * std::exp(to.peaks[i] - shift) + exponentials(x, rows.size, shift);
    to.peaks[i] = peak;
  }
}

template <class T>
INLINE void gradient_rows(const Rows<T>& rows, const float* log_sum_exps, int64_t begin, int64_t end) {
  Work work(rows.size);
  for (int64_t i = begin; i < end; ++i) {
    T* row = rows.row(i);
    float* x = work.of(row);
    add_bias(row, rows.bias, rows.size, x);
    exponentials(x, rows.size, log_sum_exps[i]);
    if (rows.label(i) >= 0) x[rows.label(i)] -= 1.0f;
    if (static_cast<void*>(x) != row) scale_into(x, rows.size, 1.0f, row);
  }
}

// Templates cannot be cloned for processors; these can.
FOR_EACH_PROCESSOR void softmax(const Rows<float>& rows, float* losses, int64_t begin, int64_t end) {
  softmax_rows(rows, losses, begin, end);
}
FOR_EACH_PROCESSOR void softmax(const Rows<BFloat16>& rows, float* losses, int64_t begin, int64_t end) {
  softmax_rows(rows, losses, begin, end);
}
FOR_EACH_PROCESSOR void log_sum_exp(const Rows<float>& rows, const Sums& sums, int64_t begin, int64_t end) {
  log_sum_exp_rows(rows, sums, begin, end);
}
FOR_EACH_PROCESSOR void log_sum_exp(const Rows<BFloat16>& rows, const Sums& sums, int64_t begin, int64_t end) {
  log_sum_exp_rows(rows, sums, begin, end);
}
FOR_EACH_PROCESSOR void gradient(const Rows<float>& rows, const float* shifts, int64_t begin, int64_t end) {
  gradient_rows(rows, shifts, begin, end);
}
FOR_EACH_PROCESSOR void gradient(const Rows<BFloat16>& rows, const float* shifts, int64_t begin, int64_t end) {
  gradient_rows(rows, shifts, begin, end);
}

void check_vector(const Tensor& vector, int64_t size, torch::headeronly::ScalarType type, const char* name) {
  STD_TORCH_CHECK(vector.dim() == 1 && vector.size(0) == size && vector.is_contiguous() &&
                      vector.scalar_type() == type,
                  name, " must be a contiguous vector of ", size, " elements of the right type");
}

template <class T>
Rows<T> rows_of(const Tensor& logits, const std::optional<Tensor>& bias, const Tensor& labels) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(logits.dim() == 2 && (logits.stride(1) == 1 || logits.size(1) == 1),
                  "logits must be a matrix of contiguous rows");
  if (bias) check_vector(*bias, logits.size(1), ScalarType::Float, "bias");
  check_vector(labels, logits.size(0), ScalarType::Long, "labels");
  return {static_cast<T*>(logits.mutable_data_ptr()), logits.stride(0), logits.size(1),
          bias ? static_cast<const float*>(bias->const_data_ptr()) : nullptr,
          static_cast<const int64_t*>(labels.const_data_ptr())};
}

// Calls visit(rows, begin, end) with the rows in the type of the logits, on torch's own threads.
template <class Visit>
void for_each_row(const Tensor& logits, const std::optional<Tensor>& bias, const Tensor& labels, Visit visit) {
  const auto share = [&](const auto& rows) {
    torch::stable::parallel_for(0, logits.size(0), 1,
                                [&](int64_t begin, int64_t end) { visit(rows, begin, end); });
  };
  switch (logits.scalar_type()) {
    case torch::headeronly::ScalarType::Float: return share(rows_of<float>(logits, bias, labels));
    case torch::headeronly::ScalarType::BFloat16: return share(rows_of<BFloat16>(logits, bias, labels));
    default: STD_TORCH_CHECK(false, "logits must be float32 or bfloat16");
  }
}

float* floats(const Tensor& vector, const Tensor& logits, const char* name) {
  check_vector(vector, logits.size(0), torch::headeronly::ScalarType::Float, name);
  return static_cast<float*>(vector.mutable_data_ptr());
}

void check_labels(const Tensor& labels, int64_t num_rows, int64_t num_classes) {
  check_vector(labels, num_rows, torch::headeronly::ScalarType::Long, "labels");
  const auto* label = static_cast<const int64_t*>(labels.const_data_ptr());
  for (int64_t i = 0; i < labels.numel(); ++i) {
    STD_TORCH_CHECK(0 <= label[i] && label[i] < num_classes, "label ", label[i], " of row ", i,
                    " is not one of ", num_classes, " classes");
  }
}

void softmax_minus_onehot_(Tensor logits, std::optional<Tensor> bias, Tensor labels, Tensor losses) {
  float* to = floats(losses, logits, "losses");
  STD_TORCH_CHECK(logits.dim() == 2, "logits must be a matrix");
  check_labels(labels, logits.size(0), logits.size(1));
  for_each_row(logits, bias, labels,
               [=](const auto& rows, int64_t begin, int64_t end) { softmax(rows, to, begin, end); });
}

void add_log_sum_exp_(Tensor logits, std::optional<Tensor> bias, Tensor labels, Tensor peaks, Tensor sums,
                      Tensor label_logits) {
  const Sums to = {floats(peaks, logits, "peaks"), floats(sums, logits, "sums"),
                   floats(label_logits, logits, "label_logits")};
  for_each_row(logits, bias, labels,
               [=](const auto& rows, int64_t begin, int64_t end) { log_sum_exp(rows, to, begin, end); });
}

void gradient_(Tensor logits, std::optional<Tensor> bias, Tensor labels, Tensor log_sum_exps) {
  const float* shifts = floats(log_sum_exps, logits, "log_sum_exps");
  for_each_row(logits, bias, labels,
               [=](const auto& rows, int64_t begin, int64_t end) { gradient(rows, shifts, begin, end); });
}

}  // namespace

STABLE_TORCH_LIBRARY(task_kernels, library) {
  library.def("softmax_minus_onehot_(Tensor(a!) logits, Tensor? bias, Tensor labels, Tensor(b!) losses) -> ()");
  library.def(
      "add_log_sum_exp_(Tensor logits, Tensor? bias, Tensor labels, Tensor(a!) peaks, Tensor(b!) sums, "
      "Tensor(c!) label_logits) -> ()");
  library.def("gradient_(Tensor(a!) logits, Tensor? bias, Tensor labels, Tensor log_sum_exps) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(task_kernels, CPU, library) {
  library.impl("softmax_minus_onehot_", TORCH_BOX(&softmax_minus_onehot_));
  library.impl("add_log_sum_exp_", TORCH_BOX(&add_log_sum_exp_));
  library.impl("gradient_", TORCH_BOX(&gradient_));
}

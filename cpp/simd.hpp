// simd.hpp: Vec<T>, one register of numbers, on the compiler's vector types.
//
// Called by matmul.hpp and the drivers; cells.hpp sees its operators, fma, activations and
// where_less by argument-dependent lookup. It must not know of matrices, cells or threads.
// Compiled once per instruction set, each time in a namespace of its own. On x86-64
// contraction is off: a multiply and an add are fused where, and only where, fma() is written, so
// that every instantiation rounds alike.
#pragma once

#include <cstdint>

#include "problem.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rnnfast::RNNFAST_ISA {

// RNNFAST_VECTOR_BYTES is the register width; 0 means one lane (the scalar level).
template <class T>
constexpr int register_bytes = RNNFAST_VECTOR_BYTES ? RNNFAST_VECTOR_BYTES : static_cast<int>(sizeof(T));

template <class T>
struct Native;

template <>
struct Native<float> {
    using Bits = std::uint32_t;
    typedef float Float __attribute__((vector_size(register_bytes<float>)));
    typedef float Unaligned __attribute__((vector_size(register_bytes<float>), aligned(4), may_alias));
    typedef std::uint32_t Word __attribute__((vector_size(register_bytes<float>)));
    typedef double Doubles __attribute__((vector_size(2 * register_bytes<float>)));  // as many lanes
    static constexpr int mantissa_bits = 23;
    static constexpr std::uint32_t exponent_bias = 127;
    static constexpr float magic = 0x1.8p23f;  // adding it rounds to an integer, held in the low bits
    // 2 ln 2 in two parts; the first is short, so that its product with j is exact
    static constexpr float two_ln2_high = 0x1.62e4p0f, two_ln2_low = 0x1.7f7d1cp-19f;
    static constexpr float tanh_limit = 20.0f, sigmoid_limit = 104.0f;
    // minimax q on |r| <= ln 2 with expm1(r) = r + r² q(r), relative error 1.4e-9
    static constexpr float expm1[] = {0.500000002767f,   0.166666723346f,    0.041666619993f,  0.00833261589584f,
                                      0.00138904542012f, 0.000200980626551f, 2.47809798978e-5f};
};

template <>
struct Native<double> {
    using Bits = std::uint64_t;
    typedef double Float __attribute__((vector_size(register_bytes<double>)));
    typedef double Unaligned __attribute__((vector_size(register_bytes<double>), aligned(8), may_alias));
    typedef std::uint64_t Word __attribute__((vector_size(register_bytes<double>)));
    typedef Float Doubles;
    static constexpr int mantissa_bits = 52;
    static constexpr std::uint64_t exponent_bias = 1023;
    static constexpr double magic = 0x1.8p52;
    static constexpr double two_ln2_high = 0x1.62e42fefa3p0, two_ln2_low = 0x1.3de6af278ece6p-41;
    static constexpr double tanh_limit = 40.0, sigmoid_limit = 746.0;
    // relative error 6.4e-19
    static constexpr double expm1[] = {0.499999999999999997522,   0.166666666666666586698,   0.0416666666666668297484,
                                       0.00833333333333656984271, 0.00138888888888613076033, 0.000198412698369167890013,
                                       2.48015873205665518546e-5, 2.75573219112509700296e-6, 2.7557313271891179497e-7,
                                       2.50512708977155835516e-8, 2.08775128584472998933e-9, 1.61872344689858603809e-10,
                                       1.14687267012123947502e-11};
};

template <class T>
inline typename Native<T>::Float fma_native(typename Native<T>::Float a, typename Native<T>::Float b,
                                            typename Native<T>::Float c) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return _mm512_fmadd_ps(__m512(a), __m512(b), __m512(c));
    else
        return _mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c));
#elif defined(__FMA__)
    if constexpr (sizeof(T) == 4)
        return _mm256_fmadd_ps(__m256(a), __m256(b), __m256(c));
    else
        return _mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c));
#else
    return a * b + c;  // contracted where the build allows it: CMakeLists.txt does so off x86-64
#endif
}

template <class T>
inline typename Native<T>::Float sqrt_native(typename Native<T>::Float a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return _mm512_sqrt_ps(__m512(a));
    else
        return _mm512_sqrt_pd(__m512d(a));
#elif defined(__AVX__)
    if constexpr (sizeof(T) == 4)
        return _mm256_sqrt_ps(__m256(a));
    else
        return _mm256_sqrt_pd(__m256d(a));
#else
    for (unsigned i = 0; i < sizeof(a) / sizeof(T); ++i)
        a[i] = sizeof(T) == 4 ? __builtin_sqrtf(a[i]) : __builtin_sqrt(a[i]);
    return a;
#endif
}

// R registers side by side. The tiles of matmul.hpp hold single ones; cells work on two at a time, which gives the
// processor two independent chains to interleave.
template <class T, int R = 1>
struct Vec {
    using Float = typename Native<T>::Float;
    using Word = typename Native<T>::Word;
    using Bits = typename Native<T>::Bits;
    static constexpr int register_lanes = static_cast<int>(sizeof(Float) / sizeof(T));
    static constexpr int lanes = R * register_lanes;

    Float v[R];

    Vec() = default;
    Vec(T x) {  // x in every lane
        for (int r = 0; r < R; ++r) v[r] = x - Float{};
    }

    static Vec load(const T* p) {
        Vec x;
        for (int r = 0; r < R; ++r)
            x.v[r] = *reinterpret_cast<const typename Native<T>::Unaligned*>(p + r * register_lanes);
        return x;
    }
    void store(T* p) const {
        for (int r = 0; r < R; ++r) *reinterpret_cast<typename Native<T>::Unaligned*>(p + r * register_lanes) = v[r];
    }

    // The first `count` lanes; the others read as 0 and are not written.
    static Vec load_partial(const T* p, Index count) {
        if (count >= lanes) return load(p);
        T lane[lanes] = {};
        for (Index i = 0; i < count; ++i) lane[i] = p[i];
        return load(lane);
    }
    void store_partial(T* p, Index count) const {
        if (count >= lanes) return store(p);
        T lane[lanes];
        store(lane);
        for (Index i = 0; i < count; ++i) p[i] = lane[i];
    }

    // op on each register
    template <class Op>
    static Vec map(Op op) {
        Vec x;
        for (int r = 0; r < R; ++r) x.v[r] = op(r);
        return x;
    }

    friend Vec operator+(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] + b.v[r]; });
    }
    friend Vec operator-(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] - b.v[r]; });
    }
    friend Vec operator*(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] * b.v[r]; });
    }
    friend Vec operator/(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] / b.v[r]; });
    }
    friend Vec operator-(Vec a) {
        return map([&](int r) { return -a.v[r]; });
    }

    // a b + c, rounded once where the processor can.
    friend Vec fma(Vec a, Vec b, Vec c) {
        return map([&](int r) { return fma_native<T>(a.v[r], b.v[r], c.v[r]); });
    }

    friend Vec sqrt(Vec a) {
        return map([&](int r) { return sqrt_native<T>(a.v[r]); });
    }

    // a < b ? yes : no, lane by lane; NaN is not less.
    friend Vec where_less(Vec a, Vec b, Vec yes, Vec no) {
        return map([&](int r) { return a.v[r] < b.v[r] ? yes.v[r] : no.v[r]; });
    }

    // op on the bits of each register
    template <class Op>
    static Vec map_bits(Op op) {
        return map([&](int r) { return reinterpret_cast<Float>(op(r)); });
    }
    Word bits(int r) const { return reinterpret_cast<Word>(v[r]); }
};

template <class T, int R>
inline Vec<T, R> abs(Vec<T, R> x) {
    return x.map_bits([&](int r) { return (x.bits(r) << 1) >> 1; });
}

// |magnitude| with the sign of `sign`
template <class T, int R>
inline Vec<T, R> copysign(Vec<T, R> magnitude, Vec<T, R> sign) {
    constexpr auto sign_bit = typename Vec<T>::Bits(1) << (8 * sizeof(T) - 1);
    return sign.map_bits([&](int r) { return (magnitude.bits(r) & ~sign_bit) | (sign.bits(r) & sign_bit); });
}

// coefficient[first] + coefficient[first + 1] r + ... of `count` terms by Estrin's scheme, whose chains are short.
// power: r, r², r⁴, r⁸
template <int first, int count, class T, int R>
inline Vec<T, R> polynomial(const T* coefficient, const Vec<T, R>* power) {
    if constexpr (count == 1) {
        return Vec<T, R>(coefficient[first]);
    } else {
        constexpr int level = count > 8 ? 3 : count > 4 ? 2 : count > 2 ? 1 : 0, half = 1 << level;
        return fma(polynomial<first + half, count - half>(coefficient, power), power[level],
                   polynomial<first, half>(coefficient, power));
    }
}

// exp(x) = (1 + r + r2 q) 2^(2 j), j being what rounding `shifted` to an integer left in its low bits.
template <class V>
struct ExpParts {
    V r, r2, q, shifted;
};

template <class T, int R>
inline ExpParts<Vec<T, R>> exp_parts(Vec<T, R> x) {
    using N = Native<T>;
    using V = Vec<T, R>;
    constexpr int terms = sizeof(N::expm1) / sizeof(T);
    constexpr T half_log2e = T(0.72134752044448170367996234050095);
    const V shifted = fma(x, V(half_log2e), V(N::magic));
    const V j = shifted - V(N::magic);  // x = 2 j ln 2 + r with |r| <= ln 2
    const V r = fma(j, V(-N::two_ln2_low), fma(j, V(-N::two_ln2_high), x));
    const V r2 = r * r, r4 = r2 * r2, power[] = {r, r2, r4, r4 * r4};
    return {r, r2, polynomial<0, terms>(N::expm1, power), shifted};
}

// 2^j and 2^-j
template <class T, int R>
inline Vec<T, R> power_of_two(Vec<T, R> shifted) {
    using N = Native<T>;
    return shifted.map_bits([&](int i) { return (shifted.bits(i) + N::exponent_bias) << N::mantissa_bits; });
}
template <class T, int R>
inline Vec<T, R> inverse_power_of_two(Vec<T, R> shifted) {
    using N = Native<T>;
    return shifted.map_bits([&](int i) { return (N::exponent_bias - shifted.bits(i)) << N::mantissa_bits; });
}

// max(limit, x) and min(limit, x) that keep NaN
template <class V>
inline V at_least(V limit, V x) {
    return where_less(x, limit, limit, x);
}
template <class V>
inline V at_most(V limit, V x) {
    return where_less(limit, x, limit, x);
}

// (1 + r + r2 q) 2^j 2^j: the two factors reach infinity and 0. NaN stays NaN.
template <class T, int R>
inline Vec<T, R> exp(Vec<T, R> x) {
    using V = Vec<T, R>;
    const V limit(Native<T>::sigmoid_limit), one(T(1));  // exp(-limit) is 0
    const auto [r, r2, q, shifted] = exp_parts(at_least(-limit, at_most(limit, x)));
    const V sum = one + r, lost = (one - sum) + r;  // sum + lost = 1 + r without rounding
    const V scale = power_of_two(shifted);
    return (sum + fma(r2, q, lost)) * scale * scale;
}

// 1 / (1 + exp(-x)) as 2^-j / (2^-j + s 2^j) with exp(-x) = s 2^(2 j), which neither overflows nor loses the denormals
template <class T, int R>
inline Vec<T, R> sigmoid(Vec<T, R> x) {
    using V = Vec<T, R>;
    const V limit(Native<T>::sigmoid_limit), one(T(1));
    const auto [r, r2, q, shifted] = exp_parts(-at_least(-limit, at_most(limit, x)));
    const V sum = one + r, lost = (one - sum) + r;  // sum + lost = 1 + r without rounding
    const V s = sum + fma(r2, q, lost), u = inverse_power_of_two(shifted);
    return u / (u + s * power_of_two(shifted));
}

// sign(x) (-y) / (2 + y) with y = expm1(-2 |x|)
template <class T, int R>
inline Vec<T, R> tanh(Vec<T, R> x) {
    using V = Vec<T, R>;
    const V a = abs(x);
    const auto [r, r2, q, shifted] = exp_parts(at_least(V(-Native<T>::tanh_limit), -(a + a)));
    const V scale = power_of_two(shifted), scale2 = scale * scale;
    const V y = fma(fma(r2, q, r), scale2, scale2 - V(T(1)));
    return copysign(y / (V(T(2)) + y), x);
}

template <class T, int R>
inline Vec<T, R> relu(Vec<T, R> x) {
    using V = Vec<T, R>;
    return where_less(x, V(T(0)), V(T(0)), x);
}

// A sum in double, lane by lane and then over the lanes in ascending order.
template <class T, int R = 1>
struct DoubleSum {
    using Doubles = typename Native<T>::Doubles;
    Doubles sum[R] = {};

    void add(const Vec<T, R>& x) {
        for (int r = 0; r < R; ++r) sum[r] += __builtin_convertvector(x.v[r], Doubles);
    }
    void add_square(const Vec<T, R>& x) {
        for (int r = 0; r < R; ++r) {
            const Doubles y = __builtin_convertvector(x.v[r], Doubles);
            sum[r] += y * y;
        }
    }
    double total() const {
        double result = 0;
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < Vec<T>::lanes; ++i) result += sum[r][i];
        return result;
    }
};

// Denormals are flushed to zero while one of these lives (long sequences reach them, and they are slow), in this thread
// alone.
class FlushDenormals {
  public:
#if defined(__x86_64__)
    FlushDenormals() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(saved_ | 0x8040); }
    ~FlushDenormals() { __builtin_ia32_ldmxcsr(saved_); }

  private:
    unsigned saved_;
#elif defined(__aarch64__)
    FlushDenormals() {
        std::uint64_t flushing;
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        flushing = saved_ | (std::uint64_t(1) << 24);
        asm volatile("msr fpcr, %0" : : "r"(flushing));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

  private:
    std::uint64_t saved_;
#else
    FlushDenormals() {}
#endif
  public:
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;
};

}  // namespace rnnfast::RNNFAST_ISA

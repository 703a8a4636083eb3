// operation_bindings.cpp: the operations of a training step for Python. losses.py, optimizers.py and layers.py, the
// only callers, have checked shapes, types and ranges, and say in their errors what was wrong; here nothing is said
// twice.
#include "operation_bindings.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "memory.hpp"
#include "released.hpp"

namespace rnnfast {
namespace {

namespace py = pybind11;

const Operations* operations = nullptr;  // set once, at import
int (*startable_threads)(int wanted) = nullptr;

template <class T>
const OperationsOf<T>& operations_of() {
    if constexpr (sizeof(T) == 4)
        return operations->f32;
    else
        return operations->f64;
}

// Adjacent, aligned, native numbers: the caller's where they are so already, else a copy.
template <class T>
using Numbers = py::array_t<T, py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_>;

// Calls function(T{}) with the number type of an array.
template <class Function>
auto with_type_of(const py::array& array, Function function) {
    return array.itemsize() == 8 ? function(double{}) : function(float{});
}

// What will be written: never a copy.
template <class T>
T* target(py::array& array, Index size) {
    if (!py::isinstance<Numbers<T>>(array) || array.size() != size)
        throw std::invalid_argument("out: expected " + std::to_string(size) + " adjacent numbers of the same type");
    return static_cast<T*>(array.mutable_data());
}

template <class T>
const T* source(const Numbers<T>& array, Index size) {
    if (array.size() != size) throw std::invalid_argument("expected " + std::to_string(size) + " numbers");
    return array.data();
}

// One thread for each 20 microseconds of work, in nanoseconds, as estimated by the caller.
int threads_for(double work) { return startable_threads(static_cast<int>(std::clamp(work / 20'000, 1.0, 1e6))); }

constexpr double worth_a_release = 20'000;  // nanoseconds

// Calls without the GIL where that is worth it; asks for no signals.
template <class Call>
void run(double work, Call call) {
    if (work > worth_a_release)
        without_gil(1, call);
    else
        call(nullptr);
}

// The valid rows of N sequences of T steps.
class OwnedRows {
  public:
    OwnedRows(Index N, Index T, const std::optional<Numbers<Index>>& lengths, double work_of_a_row)
        : lengths_(lengths) {
        view_ = {N * T, nullptr, N, T, nullptr, 1, nullptr};
        const Index* length = lengths ? source(*lengths, N) : nullptr;
        if (length && std::any_of(length, length + N, [&](Index n) { return n < T; })) {
            for (Index n = 0; n < N; ++n)
                for (Index t = 0; t < length[n]; ++t) rows_.push_back(n * T + t);
            view_.count = static_cast<Index>(rows_.size());
            rows_.push_back(0);  // so that data() is never null
            view_.row = rows_.data();
            view_.length = length;
        }
        work_ = work_of_a_row * static_cast<double>(view_.count);
        view_.threads = threads_for(work_);
    }
    OwnedRows(const OwnedRows&) = delete;
    OwnedRows& operator=(const OwnedRows&) = delete;

    const Rows& view() const { return view_; }
    double work() const { return work_; }

  private:
    std::optional<Numbers<Index>> lengths_;
    std::vector<Index> rows_;
    Rows view_;
    double work_;
};

std::vector<py::ssize_t> shape_of(const py::array& array, Index last) {
    std::vector<py::ssize_t> shape(array.shape(), array.shape() + array.ndim());
    shape.back() = last;
    return shape;
}

// The place of the first number of [N, T] outside [0, limit) within the lengths, or -1.
Index first_outside(const Numbers<Index>& ids, const std::optional<Numbers<Index>>& lengths, Index limit) {
    const Index N = ids.ndim() ? ids.shape(0) : 1, T = N ? ids.size() / N : 0;
    const Index* length = lengths ? source(*lengths, N) : nullptr;
    for (Index n = 0; n < N; ++n) {
        const Index *id = ids.data() + n * T, *end = id + (length ? length[n] : T);
        bool outside = false;
        for (const Index* i = id; i < end; ++i) outside |= *i < 0 || *i >= limit;
        if (!outside) continue;
        while (*id >= 0 && *id < limit) ++id;
        return id - ids.data();
    }
    return -1;
}

py::tuple softmax_cross_entropy(const py::array& logits_, const Numbers<Index>& targets,
                                const std::optional<Numbers<Index>>& lengths, const Numbers<double>& sequence_weight,
                                const std::optional<Numbers<double>>& class_weight) {
    return with_type_of(logits_, [&](auto zero) -> py::tuple {
        using T = decltype(zero);
        const Numbers<T> logits(logits_);
        const Index K = logits.shape(logits.ndim() - 1), N = logits.shape(0),
                    steps = logits.ndim() == 3 ? logits.shape(1) : 1;
        const OwnedRows rows(N, steps, lengths, 2.0 * static_cast<double>(K));
        auto gradient = new_array<T>("gradient", shape_of(logits, K));
        std::vector<double> loss(static_cast<std::size_t>(rows.view().count));
        CrossEntropy<T> call{};
        call.rows = rows.view();
        call.steps = steps;
        call.K = K;
        call.logits = logits.data();
        call.target = source(targets, N * steps);
        call.sequence_weight = source(sequence_weight, N);
        call.class_weight = class_weight ? source(*class_weight, K) : nullptr;
        call.gradient = gradient.mutable_data();
        call.loss = loss.data();
        run(rows.work(), [&](Interrupt*) { operations_of<T>().cross_entropy(call); });
        double sum = 0;
        for (const double of_a_row : loss) sum += of_a_row;
        return py::make_tuple(sum, gradient);
    });
}

py::array softmax(const py::array& logits_) {
    return with_type_of(logits_, [&](auto zero) -> py::array {
        using T = decltype(zero);
        const Numbers<T> logits(logits_);
        const Index K = logits.shape(logits.ndim() - 1), rows = logits.size() / std::max<Index>(K, 1);
        const double work = 2.0 * static_cast<double>(logits.size());
        auto out = new_array<T>("probabilities", shape_of(logits, K));
        const Softmax<T> call{rows, K, logits.data(), out.mutable_data(), threads_for(work)};
        run(work, [&](Interrupt*) { operations_of<T>().softmax(call); });
        return out;
    });
}

Rule rule_named(const std::string& name) {
    constexpr const char* names[] = {"sgd", "momentum", "nesterov", "adam", "adagrad"};
    for (int i = 0; i < 5; ++i)
        if (name == names[i]) return static_cast<Rule>(i);
    throw std::invalid_argument("rule: " + name);
}

void optimize(const std::string& rule, py::array parameters, const py::array& gradients, std::vector<py::array> moments,
              double keep, double rate, std::pair<double, double> decay, double root_scale, double epsilon) {
    with_type_of(parameters, [&](auto zero) {
        using T = decltype(zero);
        const Index size = parameters.size();
        const double work = 1.5 * static_cast<double>(size);
        const Numbers<T> g(gradients);
        OptimizerStep<T> call{};
        call.rule = rule_named(rule);
        call.size = size;
        call.parameters = target<T>(parameters, size);
        call.gradients = source(g, size);
        if (moments.size() != (call.rule == Rule::sgd ? 0u : call.rule == Rule::adam ? 2u : 1u))
            throw std::invalid_argument("moments: expected those of the rule");
        for (std::size_t k = 0; k < moments.size(); ++k) call.moment[k] = target<T>(moments[k], size);
        call.keep = static_cast<T>(keep);
        call.rate = static_cast<T>(rate);
        call.decay[0] = static_cast<T>(decay.first);
        call.decay[1] = static_cast<T>(decay.second);
        call.gain[0] = static_cast<T>(1 - decay.first);
        call.gain[1] = static_cast<T>(1 - decay.second);
        call.root_scale = static_cast<T>(root_scale);
        call.epsilon = static_cast<T>(epsilon);
        call.threads = threads_for(work);
        run(work, [&](Interrupt*) { operations_of<T>().optimize(call); });
    });
}

double sum_of_squares(const py::array& x_) {
    return with_type_of(x_, [&](auto zero) {
        using T = decltype(zero);
        const Numbers<T> x(x_);
        const double work = 0.3 * static_cast<double>(x.size());
        std::vector<double> sums(static_cast<std::size_t>((x.size() + square_piece - 1) / square_piece));
        const int threads = threads_for(work);
        run(work, [&](Interrupt*) { operations_of<T>().squares(x.data(), x.size(), sums.data(), threads); });
        double sum = 0;
        for (const double of_a_piece : sums) sum += of_a_piece;
        return sum;
    });
}

// x = x factor, or x in [-limit, limit]
template <bool clipped>
void change(py::array x, double number) {
    with_type_of(x, [&](auto zero) {
        using T = decltype(zero);
        const double work = 0.5 * static_cast<double>(x.size());
        T* const data = target<T>(x, x.size());
        const auto function = clipped ? operations_of<T>().clip : operations_of<T>().scale;
        const Index size = x.size();
        const int threads = threads_for(work);
        run(work, [&](Interrupt*) { function(data, size, static_cast<T>(number), threads); });
    });
}

py::array gather(const Numbers<Index>& ids, const std::optional<Numbers<Index>>& lengths, const py::array& table_) {
    return with_type_of(table_, [&](auto zero) -> py::array {
        using T = decltype(zero);
        const Numbers<T> table(table_);
        const Index N = ids.shape(0), steps = ids.shape(1), V = table.shape(0), D = table.shape(1);
        const OwnedRows rows(N, steps, lengths, 0.5 * static_cast<double>(D));
        auto out = new_array<T>("embedding", {N, steps, D});
        const Lookup<T> call{rows.view(), V, D, ids.data(), const_cast<T*>(table.data()), out.mutable_data()};
        run(rows.work(), [&](Interrupt*) { operations_of<T>().gather(call); });
        return out;
    });
}

void scatter(const Numbers<Index>& ids, const std::optional<Numbers<Index>>& lengths, const py::array& data_,
             py::array table) {
    with_type_of(table, [&](auto zero) {
        using T = decltype(zero);
        const Numbers<T> data(data_);
        const Index N = ids.shape(0), steps = ids.shape(1), V = table.shape(0), D = table.shape(1);
        const OwnedRows rows(N, steps, lengths, 0.5 * static_cast<double>(D));
        const double work = rows.work() + 0.1 * static_cast<double>(V * D);
        Lookup<T> call{
            rows.view(), V, D, ids.data(), target<T>(table, V * D), const_cast<T*>(source(data, N * steps * D))};
        call.rows.threads = threads_for(work);
        run(work, [&](Interrupt*) { operations_of<T>().scatter(call); });
    });
}

// The same for a product, which asks for signals.
template <class Call>
void run(const OwnedRows& rows, Call& call, void (*function)(const Call&)) {
    const auto asking = [&](Interrupt* interrupt) {
        call.rows.interrupt = interrupt;
        function(call);
    };
    if (rows.work() > worth_a_release)
        without_gil(rows.view().threads, asking);
    else
        asking(nullptr);
}

// x: [..., H], or [N, T, H] with lengths
OwnedRows dense_rows_of(const py::array& x, const std::optional<Numbers<Index>>& lengths, double work_of_a_row) {
    if (lengths) return {x.shape(0), x.shape(1), lengths, work_of_a_row};
    return {x.size() / std::max<Index>(x.shape(x.ndim() - 1), 1), 1, {}, work_of_a_row};
}

constexpr double nanoseconds_per_product = 0.04;

py::array dense(const py::array& x_, const py::array& W_, const py::array& b_,
                const std::optional<Numbers<Index>>& lengths) {
    return with_type_of(x_, [&](auto zero) -> py::array {
        using T = decltype(zero);
        const Numbers<T> x(x_), W(W_), b(b_);
        const Index H = W.shape(0), K = W.shape(1);
        const OwnedRows rows = dense_rows_of(x, lengths, nanoseconds_per_product * static_cast<double>(H * K));
        const DenseSizes sizes = operations_of<T>().dense_sizes(rows.view().count, H, K);
        auto y = new_array<T>("y", shape_of(x, K));
        const Buffer packed(static_cast<double>(sizes.weights) * sizeof(T));
        const Buffer scratch(static_cast<double>(sizes.scratch * rows.view().threads) * sizeof(T));
        Dense<T> call{
            rows.view(),    H, K, source(x, x.size()), W.data(), source(b, K), y.mutable_data(), packed.as<T>(),
            scratch.as<T>()};
        run(rows, call, operations_of<T>().dense);
        return y;
    });
}

py::array dense_gradient(const py::array& x_, const py::array& W_, const py::array& d_, py::array dW, py::array db,
                         const std::optional<Numbers<Index>>& lengths) {
    return with_type_of(x_, [&](auto zero) -> py::array {
        using T = decltype(zero);
        const Numbers<T> x(x_), W(W_), d(d_);
        const Index H = W.shape(0), K = W.shape(1), size = x.size() / H;
        const OwnedRows rows = dense_rows_of(x, lengths, 2 * nanoseconds_per_product * static_cast<double>(H * K));
        const DenseSizes sizes = operations_of<T>().dense_sizes(rows.view().count, H, K);
        auto dx = new_array<T>("dx", shape_of(x, H));
        const Buffer packed(static_cast<double>(std::max(sizes.transposed, sizes.rows)) * sizeof(T));
        const Buffer scratch(static_cast<double>(sizes.scratch * rows.view().threads) * sizeof(T));
        DenseGradient<T> call{rows.view(),
                              H,
                              K,
                              x.data(),
                              W.data(),
                              source(d, size * K),
                              dx.mutable_data(),
                              target<T>(dW, H * K),
                              target<T>(db, K),
                              packed.as<T>(),
                              scratch.as<T>()};
        run(rows, call, operations_of<T>().dense_gradient);
        return dx;
    });
}

// Denormals as the caller's floating-point environment has them.
py::array activation(const std::string& name, const py::array& x_) {
    constexpr const char* names[] = {"exp", "tanh", "sigmoid"};
    const auto* const found = std::find(std::begin(names), std::end(names), name);
    if (found == std::end(names))
        throw std::invalid_argument("name: expected exp, tanh or sigmoid, got '" + name + "'");
    return with_type_of(x_, [&](auto zero) -> py::array {
        using T = decltype(zero);
        const Numbers<T> x(x_);
        auto out = new_array<T>("out", std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
        T* const data = out.mutable_data();
        run(2.0 * static_cast<double>(x.size()), [&](Interrupt*) {
            operations_of<T>().apply(static_cast<Function>(found - names), x.data(), x.size(), data);
        });
        return out;
    });
}

}  // namespace

void bind_operations(py::module_& m, const Operations& table, int (*threads)(int)) {
    operations = &table;
    startable_threads = threads;
    m.def("first_outside", &first_outside);
    m.def("softmax_cross_entropy", &softmax_cross_entropy);
    m.def("softmax", &softmax);
    m.def("optimize", &optimize);
    m.def("sum_of_squares", &sum_of_squares);
    m.def("scale", &change<false>);
    m.def("clip", &change<true>);
    m.def("gather", &gather);
    m.def("scatter", &scatter);
    m.def("dense", &dense);
    m.def("dense_gradient", &dense_gradient);
    m.def("activation", &activation);
}

}  // namespace rnnfast

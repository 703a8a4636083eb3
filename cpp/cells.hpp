// cells.hpp: THE file of the cells: each is described here once, as four constants and two functions of one
// vector of units. The drivers (forward.hpp, backward.hpp) supply products, time, lengths, direction and threads; a
// cell knows none of them. V is a register of numbers with + - * /, fma(a, b, c) = a b + c, and the activations.
//
//   name        what the caller passes
//   pre         gate blocks in a row of pre-activations; x Wx adds to the leftmost `input` blocks and h Wh to the
//   input         rightmost `recurrent` ones, two overlapping windows; the bias has `pre` blocks
//   recurrent
//   reset       of the blocks to which h Wh adds, so many of the leftmost take a state that the cell makes of h in
//                 place of it, once the others are complete (GRU before: r h); 0 or left out: none
//   states      1 (h) or 2 (h, c)
//   order       order[p] is the block of the public bias that holds block p; the public weights have
//                 max(input, recurrent) blocks, and the last of those also serves what lies past them (GRU: m)
//
//   forward     gate: pre-activations in, activations out    state: before the step in, after it out
//   backward    gate: activations in, gradients of the pre-activations out    previous: states before the step
//               d: gradients of the states after the step in; out: of the states before it, without the part
//               that flows through h Wh, which the driver adds
//
//   with `reset`, also what comes between the two products of a step:
//   forward_reset    gate: pre-activations of the blocks that take h, whose activations may be left in their place;
//                      returns what the others take
//   backward_reset   called after backward, with the gradient of that: gate and d: what they lack without it
//
// To add a cell: write it below, append it to AllCells, and write its twin in reference.py.

namespace rnnfast::RNNFAST_ISA {

// a = phi(x Wx + h Wh + b), h' = a
template <class Activation>
struct Rnn {
    static constexpr const char* name = Activation::cell_name;
    static constexpr int pre = 1, input = 1, recurrent = 1, states = 1;
    static constexpr int order[] = {0};

    template <class V>
    static void forward(V (&gate)[1], V (&state)[1]) {
        gate[0] = state[0] = Activation::value(gate[0]);
    }

    template <class V>
    static void backward(V (&gate)[1], const V (&)[1], V (&d)[1]) {
        gate[0] = d[0] * Activation::slope(gate[0]);
        d[0] = V(0);
    }
};

// Each activation's slope is a function of its value.
struct Tanh {
    static constexpr const char* cell_name = "rnn_tanh";
    template <class V>
    static V value(V x) {
        return tanh(x);
    }
    template <class V>
    static V slope(V y) {
        return fma(-y, y, V(1));
    }
};

struct Relu {
    static constexpr const char* cell_name = "rnn_relu";
    template <class V>
    static V value(V x) {
        return relu(x);
    }
    template <class V>
    static V slope(V y) {
        return where_less(V(0), y, V(1), V(0));
    }
};

struct Sigmoid {
    static constexpr const char* cell_name = "rnn_sigmoid";
    template <class V>
    static V value(V x) {
        return sigmoid(x);
    }
    template <class V>
    static V slope(V y) {
        return fma(-y, y, y);
    }
};

// i, f, o = sigmoid, g = tanh;  c' = f c + i g,  h' = o tanh(c')
struct Lstm {
    static constexpr const char* name = "lstm";
    static constexpr int pre = 4, input = 4, recurrent = 4, states = 2;
    static constexpr int order[] = {0, 1, 2, 3};

    template <class V>
    static void forward(V (&gate)[4], V (&state)[2]) {
        auto& [i, f, g, o] = gate;
        auto& [h, c] = state;
        i = sigmoid(i), f = sigmoid(f), g = tanh(g), o = sigmoid(o);
        c = fma(f, c, i * g);
        h = o * tanh(c);
    }

    template <class V>
    static void backward(V (&gate)[4], const V (&previous)[2], V (&d)[2]) {
        auto& [i, f, g, o] = gate;
        const V c = previous[1], u = tanh(fma(f, c, i * g));  // u = tanh(c')
        const V do_ = d[0] * u;
        const V dc = fma(d[0] * o, fma(-u, u, V(1)), d[1]);
        const V di = dc * g, df = dc * c, dg = dc * i;
        d[0] = V(0);
        d[1] = dc * f;
        i = di * fma(-i, i, i);
        f = df * fma(-f, f, f);
        g = dg * fma(-g, g, V(1));
        o = do_ * fma(-o, o, o);
    }
};

// r, z = sigmoid;  n = tanh(n_x + r m), m = h Whn + b_nh;  h' = (1 - z) n + z h
struct Gru {
    static constexpr const char* name = "gru";
    static constexpr int pre = 4, input = 3, recurrent = 3, states = 1;
    static constexpr int order[] = {2, 0, 1, 3};  // blocks n, r, z, m of the public r, z, n, nh

    template <class V>
    static void forward(V (&gate)[4], V (&state)[1]) {
        auto& [n, r, z, m] = gate;
        auto& [h] = state;
        r = sigmoid(r), z = sigmoid(z);
        n = tanh(fma(r, m, n));
        h = fma(z, h - n, n);
    }

    template <class V>
    static void backward(V (&gate)[4], const V (&previous)[1], V (&d)[1]) {
        auto& [n, r, z, m] = gate;
        const V dz = d[0] * (previous[0] - n);
        const V dn = fma(-z, d[0], d[0]) * fma(-n, n, V(1));
        d[0] = d[0] * z;
        z = dz * fma(-z, z, z);
        n = dn;
        const V dr = dn * m;
        m = dn * r;
        r = dr * fma(-r, r, r);
    }
};

// r, z = sigmoid;  n = tanh(n_x + (r h) Whn);  h' = (1 - z) n + z h
struct GruResetBefore {
    static constexpr const char* name = "gru_reset_before";
    static constexpr int pre = 3, input = 3, recurrent = 3, reset = 1, states = 1;
    static constexpr int order[] = {2, 0, 1};  // blocks n, r, z of the public r, z, n

    template <class V>
    static V forward_reset(V (&gate)[3], const V (&state)[1]) {
        gate[1] = sigmoid(gate[1]);
        return gate[1] * state[0];
    }

    template <class V>
    static void forward(V (&gate)[3], V (&state)[1]) {
        auto& [n, r, z] = gate;
        auto& [h] = state;
        z = sigmoid(z);
        n = tanh(n);
        h = fma(z, h - n, n);
    }

    template <class V>
    static void backward(V (&gate)[3], const V (&previous)[1], V (&d)[1]) {
        auto& [n, r, z] = gate;
        const V dz = d[0] * (previous[0] - n);
        const V dn = fma(-z, d[0], d[0]) * fma(-n, n, V(1));
        d[0] = d[0] * z;
        z = dz * fma(-z, z, z);
        n = dn;
    }

    template <class V>
    static void backward_reset(V (&gate)[3], const V (&previous)[1], V d_reset, V (&d)[1]) {
        V& r = gate[1];
        d[0] = fma(d_reset, r, d[0]);
        r = d_reset * previous[0] * fma(-r, r, r);
    }
};

template <class... Cells>
struct CellList {};

using AllCells = CellList<Rnn<Tanh>, Rnn<Relu>, Rnn<Sigmoid>, Lstm, Gru, GruResetBefore>;

}  // namespace rnnfast::RNNFAST_ISA

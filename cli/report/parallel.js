// Knobs and objectives side by side: every trial one line across all axes. Wide: upright axes; narrow: lying ones, one below the other.

const AXES_MAX = 16;
// In two lines: of layers "attention.heads"; "mixer.attention" is the share of layers that have it.
function knobLabel(name) {
    const dot = name.indexOf('.'), [a, b] = [name.slice(0, dot), name.slice(dot + 1)];
    if (dot < 0 || !layered) return ['', name];
    return a === 'mixer' || a === 'ffn' ? [b, 'share'] : [a, b];
}
function valueText(v) {
    if (v === null || v === undefined) return 'none';
    if (typeof v === 'boolean') return v ? 'yes' : 'no';
    return typeof v === 'number' ? number(v).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '') : String(v);
}
// Knobs that vary among what is shown, then the objectives. An axis: {label, get(trial), words or low and high, none (some have no such knob),
// turned, text(value), knob}.
function parallelAxes() {
    const list = others.concat(front).filter(p => p.features), axes = [];
    const axis = (label, get, more) => {
        const values = list.map(get), there = values.filter(v => v !== null && v !== undefined), numbers = there.every(v => typeof v === 'number');
        const words = numbers ? null : [...new Set(there.map(valueText))].sort();
        const [low, high] = numbers ? [Math.min(...there), Math.max(...there)] : [0, 0];
        return {label, get, words, low, high, kinds: new Set(there).size, none: there.length < values.length, ...more};
    };
    for (const name of new Set(list.flatMap(p => Object.keys(p.features)))) {
        const a = axis(knobLabel(name), p => p.features[name], {text: valueText, knob: true, turned: false});
        if (a.kinds > 1 && !(layered && name.endsWith('.none'))) axes.push(a);
    }
    const dropped = Math.max(0, axes.length - (AXES_MAX - objectives.length));
    axes.length -= dropped;
    for (const o of objectives)
        axes.push(axis(['', o.metric], p => p.metrics[o.metric], {text: v => metricText(o.metric, v, true), knob: false, turned: o.goal !== 'max'}));
    return {axes, points: list, dropped};
}
function axisScale(a, from, to) {
    const {words, low, high} = a, log = !words && low > 0 && high / low > 12, f = log ? Math.log : v => v, [p, q] = a.turned ? [to, from] : [from, to];
    const s = words ? v => p + (q - p) * (words.length > 1 ? words.indexOf(valueText(v)) / (words.length - 1) : 0.5)
        : v => p + (q - p) * (low === high ? 0.5 : (f(v) - f(low)) / (f(high) - f(low)));
    const short = text => text.length > 14 ? text.slice(0, 13) + '…' : text;
    const ends = words ? [short(words[0]), short(words[words.length - 1])] : [a.text(low), a.text(high)];
    s.ends = a.turned ? ends.reverse() : ends;
    return s;
}
// The axis itself, with its name and what stands at its ends; off: where trials without such a knob are.
function drawAxis(a, i, n, lying, size) {
    const {low, high, off, width} = size, [start, end] = a.scale.ends;
    const text = (x, y, anchor, cls, s) => svg('text', {x, y, 'text-anchor': anchor, class: cls}, s);
    const line = lying ? 'M' + low + ' ' + a.at + 'H' + high : 'M' + px(a.at) + ' ' + low + 'V' + high;
    const g = svg('g', {class: 'upright' + (a.knob ? '' : ' objective')}, svg('path', {d: line}));
    if (a.none) g.append(svg('circle', lying ? {cx: off, cy: a.at, r: 2.5} : {cx: px(a.at), cy: off, r: 2.5}));
    if (lying) {
        g.append(text(14, a.at - 21, 'start', 'title', a.label.filter(Boolean).join(' ')), text(low, a.at - 6, 'start', '', start),
                 text(high, a.at - 6, 'end', '', end));
        if (a.none) g.append(text(off, a.at + 13, 'middle', '', 'none'));
        return g;
    }
    const raised = !a.knob && (n - 1 - i) % 2; // objectives have long names: every other one stands higher
    g.append(middle(a.at, 12, width, a.label[0], 'dim'), middle(a.at, raised ? 12 : 27, width, a.label[1], 'title'), middle(a.at, high - 8, width, end),
             middle(a.at, low + 15, width, start));
    if (a.none) g.append(middle(a.at, off + 15, width, 'none'));
    return g;
}
function parallel(model, width, hook) {
    const {axes, points: list} = model, n = axes.length, lying = width / n < 66;
    const none = axes.some(a => a.none) ? 36 : 0, height = lying ? n * 58 + 26 : 350 + none;
    const node = svg('svg', {viewBox: '0 0 ' + width + ' ' + height, width, height, role: 'img', 'aria-label': 'knobs and objectives of every trial'});
    const size = lying ? {low: 14 + none, high: width - 14, off: 18, width} : {low: height - 22 - none, high: 56, off: height - 22, width};
    axes.forEach((a, i) => {
        a.scale = axisScale(a, size.low, size.high);
        a.at = lying ? 36 + i * 58 : n < 2 ? width / 2 : 38 + i * (width - 76) / (n - 1);
    });
    const across = (a, p) => {
        const v = a.get(p);
        return v === null || v === undefined ? size.off : a.scale(v);
    };
    const path = p => pathOf(axes.map(a => lying ? [across(a, p), a.at] : [a.at, across(a, p)])), rest = list.filter(p => !p.front);
    const opacity = strength(list.length - rest.length);
    const over = svg('path', {class: 'thread hover'}), marked = svg('path', {class: 'thread chosen'});
    node.append(svg('path', {class: 'threads', 'data-points': rest.length, d: rest.map(path).join('')}),
                ...list.filter(p => p.front).map(p => svg('path', {class: 'thread', opacity, 'data-trial': p.trial, d: path(p)})), over, marked,
                ...axes.map((a, i) => drawAxis(a, i, n, lying, size)));
    hook(trial => {
        const p = byTrial.get(trial);
        marked.setAttribute('d', p && p.features ? path(p) : '');
    });
    follow(node, (u, v) => {
        const along = lying ? v : u, off = lying ? u : v, next = axes.findIndex(a => a.at > along), k = next < 0 ? n - 1 : Math.max(1, next);
        const [a, b] = [axes[k - 1], axes[k]], t = (along - a.at) / (b.at - a.at);
        let best = null, least = 18;
        for (const p of list) {
            const d = Math.abs(across(a, p) + t * (across(b, p) - across(a, p)) - off) * (p.front ? 0.5 : 1);
            if (d < least) { least = d; best = p; }
        }
        return best;
    }, p => over.setAttribute('d', p ? path(p) : ''));
    return node;
}

// Axes, dots, lines, and the tooltip.

const tip = document.getElementById('tip');
function showTip(x, y, ...content) {
    tip.replaceChildren(...content);
    tip.hidden = false;
    const w = tip.offsetWidth, h = tip.offsetHeight, right = root.clientWidth;
    tip.style.left = Math.max(8, x + 16 + w > right - 8 ? Math.min(x - w - 16, right - w - 8) : x + 16) + 'px';
    tip.style.top = Math.max(8, y + 16 + h > innerHeight - 8 ? y - h - 16 : y + 16) + 'px';
}
const hideTip = () => { tip.hidden = true; };
window.addEventListener('pointerdown', hideTip, true);
window.addEventListener('scroll', hideTip, {passive: true});
function trialTip(p) {
    const row = o => {
        const iv = p.intervals[o.metric];
        return el('tr', null, el('th', null, o.metric), el('td', null, metricText(o.metric, p.metrics[o.metric])),
                  el('td', {class: 'dim'}, iv ? metricText(o.metric, iv[0], true) + ' – ' + metricText(o.metric, iv[1], true) : ''));
    };
    return [el('b', null, 'Trial ' + p.trial + (p.front ? ', on the front' : '')), el('code', null, p.text || p.arch || ''),
            el('table', null, objectives.map(row))];
}
// The trial that find gives for a place of the pointer is marked, described, and chosen by a click.
function follow(node, find, mark) {
    const at = e => {
        const r = node.getBoundingClientRect(), k = node.viewBox.baseVal.width / r.width;
        return find((e.clientX - r.x) * k, (e.clientY - r.y) * k, e.pointerType === 'touch');
    };
    node.addEventListener('pointermove', e => {
        const p = at(e);
        mark(p);
        node.style.cursor = p ? 'pointer' : '';
        if (p) showTip(e.clientX, e.clientY, ...trialTip(p));
        else hideTip();
    });
    node.addEventListener('pointerleave', () => {
        mark(null);
        hideTip();
    });
    node.addEventListener('click', e => {
        const p = at(e);
        if (!p) return;
        choose(p.trial);
        showTip(e.clientX, e.clientY, ...trialTip(p));
    });
}

// ---- scales ----

function niceStep(span, n) {
    const raw = span / n, base = 10 ** Math.floor(Math.log10(raw)), f = raw / base;
    return base * (f < 1.5 ? 1 : f < 3 ? 2 : f < 7 ? 5 : 10);
}
function linearTicks(low, high, n) {
    const step = niceStep(high - low || 1, n), out = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(i * step);
    return out;
}
function logTicks(low, high, n) {
    for (const marks of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
        const out = [];
        for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e++)
            for (const m of marks) if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) out.push(m * 10 ** e);
        if (out.length <= n + 1) return out.length >= 2 ? out : linearTicks(low, high, n);
    }
    const out = [], every = Math.ceil((Math.log10(high) - Math.log10(low)) / n);
    for (let e = Math.ceil(Math.log10(low)); 10 ** e <= high; e += every) out.push(10 ** e);
    return out;
}
// A function from values to pixels. All of inside are in; of rest the last three in a hundred at either end may be beyond the edge.
// opts: log (false: never), pad (share of the span beyond the ends), zero (starts there).
function scale(inside, rest, from, to, opts) {
    const {log: mayLog = true, pad = 0.06, zero = false} = opts || {};
    const all = inside.filter(known), more = rest.filter(known).sort((a, b) => a - b), cut = more.length > 30 ? 0.03 : 0;
    if (more.length) all.push(more[Math.floor((more.length - 1) * cut)], more[Math.ceil((more.length - 1) * (1 - cut))]);
    let low = all.length ? Math.min(...all) : 0, high = all.length ? Math.max(...all) : 1;
    if (low === high) {
        const w = Math.abs(low) * 0.05 || 1;
        low -= w;
        high += w;
    }
    const log = mayLog && low > 0 && high / low > 12, f = log ? Math.log : v => v, span = f(high) - f(low);
    let a = f(low) - span * pad, b = f(high) + span * pad;
    if (!log && (zero || (low >= 0 && a < 0))) a = Math.min(0, low);
    const s = v => from + (to - from) * (f(v) - a) / (b - a);
    s.ticks = n => log ? logTicks(Math.exp(a), Math.exp(b), n) : linearTicks(a, b, n);
    s.inside = v => known(v) && f(v) >= a - 1e-12 && f(v) <= b + 1e-12;
    s.log = log;
    return s;
}
const px = v => v.toFixed(1);
const stairs = list => list.map(([x, y], i) => i ? 'H' + px(x) + 'V' + px(y) : 'M' + px(x) + ' ' + px(y)).join('');
const pathOf = list => list.map(([x, y], i) => (i ? 'L' : 'M') + px(x) + ' ' + px(y)).join('');
function tickText(name, v) {
    const m = metricInfo[name] || {};
    if (v === 0) return '0';
    if (m.unit === 'B' || m.source === 'paper' || Math.abs(v) >= 1e4)
        return scaled(v, m.unit === 'B' ? 'B' : '').replace(/(\.\d*?)0+(?=\D|$)/, '$1').replace(/\.(?=\D|$)/, '');
    return plainTick(v);
}

// The texts of an axis' ticks; with more digits where they lie so close together that some would read alike.
function distinct(ticks, text) {
    let out = ticks.map(text);
    for (let digits = 4; digits < 15 && new Set(out.filter(Boolean)).size < out.filter(Boolean).length; digits++)
        out = ticks.map(v => group(parseFloat(v.toPrecision(digits))).replace('-', '−'));
    return out;
}

// Text around x, moved where it would not fit between 0 and width.
function middle(x, y, width, s, cls) {
    const half = s.length * 3.5, at = x - half < 0 ? [0, 'start'] : x + half > width ? [width, 'end'] : [px(x), 'middle'];
    return svg('text', {x: at[0], y, 'text-anchor': at[1], class: cls}, s);
}

// ---- a frame with axes ----

// An axis: {scale(from, to), tick(value), title}.
function frame(width, height, xAxis, yAxis, label) {
    const box = {left: 0, right: width - 16, top: 28, bottom: height - 44};
    const node = svg('svg', {viewBox: '0 0 ' + width + ' ' + height, width, height, role: 'img', 'aria-label': label});
    const y = yAxis.scale(box.bottom, box.top), yTicks = y.ticks(Math.max(3, Math.floor(height / 55))), yTexts = distinct(yTicks, yAxis.tick);
    box.left = Math.max(44, 16 + 7 * Math.max(...yTexts.map(t => t.length)));
    const x = xAxis.scale(box.left, box.right), xTicks = x.ticks(Math.max(3, Math.floor(width / 90))), xTexts = distinct(xTicks, xAxis.tick);
    const lattice = svg('g', {class: 'lattice'}), text = svg('g', {class: 'ticks'}), plot = svg('g');
    yTicks.forEach((v, i) => {
        lattice.append(svg('path', {d: 'M' + box.left + ' ' + px(y(v)) + 'H' + box.right}));
        text.append(svg('text', {x: box.left - 8, y: px(y(v) + 4), 'text-anchor': 'end'}, yTexts[i]));
    });
    xTicks.forEach((v, i) => {
        lattice.append(svg('path', {d: 'M' + px(x(v)) + ' ' + box.top + 'V' + box.bottom}));
        text.append(middle(x(v), box.bottom + 17, width, xTexts[i]));
    });
    text.append(svg('text', {class: 'title', x: 0, y: 12}, yAxis.title),
                svg('text', {class: 'title', x: box.right, y: height - 6, 'text-anchor': 'end'}, xAxis.title));
    node.append(lattice, svg('path', {class: 'axis', d: 'M' + box.left + ' ' + box.top + 'V' + box.bottom + 'H' + box.right}), text, plot);
    return {node, x, y, plot, box};
}
function metricAxis(o) {
    const name = o.metric, unit = unitOf(name);
    return {name, goal: o.goal, get: p => p.metrics[name], interval: p => p.intervals[name], tick: v => tickText(name, v),
            title: name + (unit ? ', ' + unit : '') + (o.goal === 'max' ? ' · more is better' : ' · less is better')};
}
const plainTick = v => String(parseFloat(v.toPrecision(4))).replace('-', '−');
const wholeTick = v => Number.isInteger(v) ? group(v) : '';
const orderAxis = {name: 'proposal', log: false, get: p => known(p.proposal) ? p.proposal + 1 : null, interval: () => null, tick: wholeTick, title: 'proposal'};

// ---- dots ----

// Those that no other of these beats in a and b alone, by a.
function pairFront(list, a, b) {
    const sign = q => q.goal === 'max' ? -1 : 1, out = [];
    const sorted = list.map(p => [sign(a) * a.get(p), sign(b) * b.get(p), p]).sort((p, q) => p[0] - q[0] || p[1] - q[1]);
    for (const p of sorted) if (!out.length || p[1] < out[out.length - 1][1]) out.push(p);
    return out.map(p => p[2]);
}
const RADIUS = front.length > 200 ? 2.6 : front.length > 60 ? 3.4 : 4.2;
function dot(p, a, b, x, y) {
    const cx = px(x(a.get(p))), cy = px(y(b.get(p))), ia = a.interval(p), ib = b.interval(p);
    const across = ia && 'M' + px(x(ia[0])) + ' ' + cy + 'H' + px(x(ia[1])) + 'm0 -3v6M' + px(x(ia[0])) + ' ' + cy + 'm0 -3v6';
    const along = ib && 'M' + cx + ' ' + px(y(ib[0])) + 'V' + px(y(ib[1])) + 'm-3 0h6M' + cx + ' ' + px(y(ib[0])) + 'm-3 0h6';
    const describe = e => {
        const r = e.target.getBoundingClientRect();
        showTip(r.x, r.y, ...trialTip(p));
    };
    const key = e => {
        if (e.key !== 'Enter' && e.key !== ' ') return;
        e.preventDefault();
        choose(p.trial);
    };
    const label = 'trial ' + p.trial + ', ' + [a, b].map(q => q.name + ' ' + metricText(q.name, q.get(p))).join(', ');
    return svg('g', {class: 'point', 'data-trial': p.trial}, ia || ib ? svg('path', {class: 'whisker', d: (across || '') + (along || '')}) : null,
               svg('circle', {cx, cy, r: RADIUS, tabindex: 0, 'aria-label': label, onfocus: describe, onblur: hideTip, onkeydown: key}));
}
function scatter(a, b, width, hook) {
    const height = Math.round(Math.max(260, Math.min(400, width * 0.78))), there = p => known(a.get(p)) && known(b.get(p));
    const span = q => (from, to) => scale(front.flatMap(p => [q.get(p), ...(q.interval(p) || [])]), others.map(q.get), from, to, {log: q.log});
    const {node, x, y, plot, box} = frame(width, height, {...a, scale: span(a)}, {...b, scale: span(b)}, b.name + ' against ' + a.name);
    const at = p => [x(a.get(p)), y(b.get(p))], mine = front.filter(there), rest = others.filter(there);
    const seen = rest.filter(p => x.inside(a.get(p)) && y.inside(b.get(p))), beyond = rest.length - seen.length;
    plot.append(svg('path', {class: 'faint', 'data-points': seen.length, d: seen.map(p => 'M' + at(p).map(px).join(' ') + 'h0').join('')}));
    for (const c of spec.constraints || []) {
        for (const v of [c.min, c.max].filter(known)) {
            const bound = d => plot.append(svg('path', {class: 'bound', d}));
            if (c.metric === a.name && x.inside(v)) bound('M' + px(x(v)) + ' ' + box.top + 'V' + box.bottom);
            if (c.metric === b.name && y.inside(v)) bound('M' + box.left + ' ' + px(y(v)) + 'H' + box.right);
        }
    }
    if (a.goal) plot.append(svg('path', {class: 'stairs', d: stairs(pairFront(mine, a, b).map(at))}));
    const ring = svg('circle', {class: 'ring', r: 8}), halo = svg('circle', {class: 'halo', r: 8});
    const put = (c, p) => {
        const shown = p && there(p) && x.inside(a.get(p)) && y.inside(b.get(p)), [cx, cy] = shown ? at(p) : [0, 0];
        fill(c, {cx, cy, visibility: shown ? 'visible' : 'hidden'}, []);
    };
    plot.append(...mine.map(p => dot(p, a, b, x, y)), ring, halo);
    put(halo, null);
    hook(trial => put(ring, byTrial.get(trial)));
    follow(node, (u, v, touch) => {
        let best = null, least = touch ? 34 ** 2 : 22 ** 2;
        for (const p of mine.concat(seen)) {
            const [cx, cy] = at(p), d = ((cx - u) ** 2 + (cy - v) ** 2) * (p.front ? 0.4 : 1); // of two about as near, the front's
            if (d < least) { least = d; best = p; }
        }
        return best;
    }, p => put(halo, p));
    if (!beyond) return node;
    return el('div', null, node, el('p', {class: 'caption'}, plural(beyond, 'trial') + (beyond === 1 ? ' lies' : ' lie') + ' beyond the frame.'));
}

// How strong each of n lines is drawn: many leave each other visible.
const strength = n => Math.max(0.25, Math.min(0.75, 12 / Math.max(1, n))).toFixed(2);

// ---- a line that goes up in steps ----

// o: xTitle, xTick, yTitle, yTick, tip(i), value(y), and perhaps log, area, height, cls.
function lines({x: xs, y: ys}, o, width) {
    const height = o.height || Math.round(Math.max(200, Math.min(280, width * 0.55)));
    const at = xs.map((v, i) => i).filter(i => known(xs[i]) && known(ys[i]));
    const xAxis = {scale: (a, b) => scale(at.map(i => xs[i]), [], a, b, {pad: 0, log: false}), tick: o.xTick, title: o.xTitle};
    const yAxis = {scale: (a, b) => scale(at.map(i => ys[i]), [], a, b, {log: o.log || false}), tick: o.yTick, title: o.yTitle};
    const {node, x, y, plot, box} = frame(width, height, xAxis, yAxis, o.yTitle + ' against ' + o.xTitle);
    const d = stairs(at.map(i => [x(xs[i]), y(ys[i])])), last = at[at.length - 1];
    const cross = svg('path', {class: 'cross'});
    if (o.area) plot.append(svg('path', {class: 'area', d: d + 'V' + box.bottom + 'H' + px(x(xs[at[0]])) + 'Z'}));
    plot.append(svg('path', {class: 'line ' + (o.cls || ''), d, 'data-points': at.length}),
                svg('circle', {class: 'end', cx: px(x(xs[last])), cy: px(y(ys[last])), r: 3.5}), cross);
    node.addEventListener('pointermove', e => {
        const r = node.getBoundingClientRect(), u = (e.clientX - r.x) * width / r.width;
        const i = at.reduce((best, k) => Math.abs(x(xs[k]) - u) < Math.abs(x(xs[best]) - u) ? k : best, last);
        cross.setAttribute('d', 'M' + px(x(xs[i])) + ' ' + box.top + 'V' + box.bottom);
        showTip(e.clientX, e.clientY, el('b', null, o.tip(i)), el('span', null, o.value(ys[i])));
    });
    node.addEventListener('pointerleave', () => {
        cross.setAttribute('d', '');
        hideTip();
    });
    return node;
}

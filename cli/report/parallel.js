// Knobs and objectives side by side: every trial one line across all axes. Wide: upright axes; narrow: lying ones, one below the other.

const AXES_MAX = 16;
// "attention.heads" in two lines; of layers, "mixer.attention" is the share of layers that have it.
function knobLabel(name, layered) {
    const dot = name.indexOf('.');
    if (dot < 0 || !layered) return ['', name];
    const [a, b] = [name.slice(0, dot), name.slice(dot + 1)];
    return a === 'mixer' || a === 'ffn' ? [b, 'share'] : [a, b];
}
function valueText(v) {
    if (v === null || v === undefined) return 'none';
    if (typeof v === 'boolean') return v ? 'yes' : 'no';
    return typeof v === 'number' ? number(v).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '') : String(v);
}
// The axes: knobs that vary among what is shown, then the objectives, turned so that better is up (left when lying).
function parallelAxes() {
    const points = others.concat(front).filter(p => p.features), axes = [], layered = (data.job.space || {}).type === 'lm';
    const names = [...new Set(points.flatMap(p => Object.keys(p.features)))];
    for (const name of names) {
        if (layered && name.endsWith('.none')) continue;
        const values = points.map(p => p.features[name]), there = values.filter(v => v !== null && v !== undefined), kinds = [...new Set(there)];
        if (kinds.length < 2 && there.length === values.length) continue;
        if (!there.length) continue;
        const words = !there.every(v => typeof v === 'number');
        axes.push({label: knobLabel(name, layered), get: p => p.features[name], words: words ? kinds.map(valueText).sort() : null,
                   values: there, none: there.length < values.length, text: valueText, knob: true});
    }
    const dropped = Math.max(0, axes.length - (AXES_MAX - objectives.length));
    axes.length -= dropped;
    for (const o of objectives)
        axes.push({label: ['', o.metric], get: p => p.metrics[o.metric], words: null, values: points.map(p => p.metrics[o.metric]).filter(known),
                   front: front.map(p => p.metrics[o.metric]), none: false, turned: o.goal !== 'max', text: v => metricText(o.metric, v, true), knob: false});
    return {axes, points, dropped};
}
function axisScale(a, from, to) {
    if (a.words) {
        const s = v => a.words.length < 2 ? (from + to) / 2 : from + (to - from) * a.words.indexOf(valueText(v)) / (a.words.length - 1);
        s.ends = [a.words[0], a.words[a.words.length - 1]];
        s.inside = () => true;
        return s;
    }
    const low = Math.min(...a.values), high = Math.max(...a.values), log = low > 0 && high / low > 12, f = log ? Math.log : v => v;
    const [p, q] = a.turned ? [to, from] : [from, to];
    const s = v => low === high ? (from + to) / 2 : p + (q - p) * (f(v) - f(low)) / (f(high) - f(low));
    s.ends = a.turned ? [a.text(high), a.text(low)] : [a.text(low), a.text(high)];
    return s;
}
function parallel(model, width, hook) {
    const {axes, points} = model, n = axes.length, lying = width / n < 66;
    const height = lying ? n * 58 + 20 : 360, none = axes.some(a => a.none) ? 22 : 0;
    const node = svg('svg', {viewBox: '0 0 ' + width + ' ' + height, width, height, role: 'img', 'aria-label': 'knobs and objectives of every trial'});
    const low = lying ? 14 + none : height - 30 - none, high = lying ? width - 14 : 56;
    axes.forEach((a, i) => {
        a.scale = axisScale(a, low, high);
        a.at = lying ? 34 + i * 58 : n < 2 ? width / 2 : 38 + i * (width - 76) / (n - 1);
    });
    const off = lying ? 14 : height - 30;
    const place2 = (a, p) => { const v = a.get(p); return v === null || v === undefined ? off : a.scale(v); };
    const path = p => axes.map((a, i) => (i ? 'L' : 'M') + (lying ? place2(a, p).toFixed(1) + ' ' + a.at : a.at.toFixed(1) + ' ' + place2(a, p).toFixed(1))).join('');
    node.append(svg('path', {class: 'threads', 'data-points': points.filter(p => !p.front).length, d: points.filter(p => !p.front).map(path).join('')}));
    const strong = points.filter(p => p.front).map(p => svg('path', {class: 'thread', 'data-trial': p.trial, d: path(p)}));
    const over = svg('path', {class: 'thread hover'}), ring = svg('path', {class: 'thread chosen'});
    node.append(...strong, over, ring);
    axes.forEach((a, i) => {
        const g = svg('g', {class: 'upright' + (a.knob ? '' : ' objective')});
        if (lying) {
            g.append(svg('path', {d: 'M' + low + ' ' + a.at + 'H' + high}), svg('text', {class: 'title', x: 14, y: a.at - 20}, a.label[1]),
                     svg('text', {class: 'dim', x: width - 14, y: a.at - 20, 'text-anchor': 'end'}, a.label[0]),
                     svg('text', {x: low, y: a.at - 6, 'text-anchor': 'start'}, a.scale.ends[0]), svg('text', {x: high, y: a.at - 6, 'text-anchor': 'end'}, a.scale.ends[1]));
            if (a.none) g.append(svg('circle', {cx: off, cy: a.at, r: 2.5}));
        } else {
            const anchor = 'middle';
            g.append(svg('path', {d: 'M' + a.at + ' ' + low + 'V' + high}), svg('text', {class: 'dim', x: a.at, y: 12, 'text-anchor': anchor}, a.label[0]),
                     svg('text', {class: 'title', x: a.at, y: a.knob || (n - i) % 2 ? 27 : 12, 'text-anchor': i === n - 1 ? 'end' : anchor, dx: i === n - 1 ? 36 : 0}, a.label[1]),
                     svg('text', {x: a.at, y: high - 8, 'text-anchor': anchor}, a.scale.ends[1]),
                     svg('text', {x: a.at, y: low + 15 + (a.none ? none : 0), 'text-anchor': anchor}, a.scale.ends[0] + (a.none ? ' · none' : '')));
            if (a.none) g.append(svg('circle', {cx: a.at, cy: off, r: 2.5}));
        }
        node.append(g);
    });
    hook(trial => {
        const p = byTrial.get(trial);
        ring.setAttribute('d', p && p.features ? path(p) : '');
    });
    const find = e => {
        const r = node.getBoundingClientRect(), px = (e.clientX - r.x) * width / r.width, py = (e.clientY - r.y) * height / r.height, along = lying ? py : px, across = lying ? px : py;
        let k = axes.findIndex(a => a.at > along);
        k = k < 0 ? n - 1 : Math.max(1, k);
        if (n < 2) return null;
        const a = axes[k - 1], b = axes[k], t = (along - a.at) / (b.at - a.at);
        let best = null, least = 18;
        for (const p of points) {
            const d = Math.abs(place2(a, p) + t * (place2(b, p) - place2(a, p)) - across) * (p.front ? 0.5 : 1);
            if (d < least) { least = d; best = p; }
        }
        return best;
    };
    const mark = p => over.setAttribute('d', p ? path(p) : '');
    node.addEventListener('pointermove', e => {
        const p = find(e);
        mark(p);
        if (p) showTip(e.clientX, e.clientY, ...trialTip(p)); else hideTip();
    });
    node.addEventListener('pointerleave', () => { mark(null); hideTip(); });
    node.addEventListener('click', e => { const p = find(e); if (p) choose(p.trial); });
    return node;
}

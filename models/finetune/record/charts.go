package record

import (
	"bytes"
	"html/template"
	"image/color"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"rag-retrieval-go/models/finetune"
)

var (
	blue   = color.NRGBA{0x1f, 0x5f, 0xbf, 0xff}
	orange = color.NRGBA{0xd9, 0x6a, 0x0b, 0xff}
	pale   = color.NRGBA{0x1f, 0x5f, 0xbf, 0x50}
)

// points is how many points a curve has at most; longer runs are averaged.
const points = 500

// curve is one line of a chart.
type curve struct {
	name   string
	at     plotter.XYs
	color  color.Color
	dotted bool // with a mark at each point
}

// charts draws the run's curves.
func charts(rows []Row, validations []finetune.Validation, lengths []int) ([]chart, error) {
	of := func(f func(i int) float64) plotter.XYs {
		var out plotter.XYs
		for i, r := range rows {
			out = append(out, plotter.XY{X: float64(r.Step), Y: f(i)})
		}
		return thinned(out)
	}
	checked := func(f func(v finetune.Validation) float64) plotter.XYs {
		var out plotter.XYs
		for _, v := range validations {
			out = append(out, plotter.XY{X: float64(v.Step), Y: f(v)})
		}
		return out
	}
	loss := of(func(i int) float64 { return rows[i].Loss })
	type want struct {
		title  string
		curves []curve
	}
	var wants []want
	if len(validations) > 0 {
		wants = append(wants, want{"MAP and MRR@10 on the validation data, points", []curve{
			{"MAP", checked(func(v finetune.Validation) float64 { return 100 * v.MAP }), blue, true},
			{"MRR@10", checked(func(v finetune.Validation) float64 { return 100 * v.MRR }), orange, true},
		}})
	}
	training := want{"Loss", []curve{{"step", loss, pale, false}, {"smoothed", smoothed(loss), blue, false}}}
	if len(validations) > 0 {
		training.curves = append(training.curves, curve{"validation", checked(func(v finetune.Validation) float64 { return v.Loss }), orange, true})
	}
	wants = append(wants, training,
		want{"Learning rate", []curve{{"", of(func(i int) float64 { return rows[i].LR }), blue, false}}},
		want{"Gradient norm, before clipping", []curve{{"", of(func(i int) float64 { return rows[i].GradNorm }), blue, false}}},
		want{"Tokens per second", []curve{{"", of(func(i int) float64 { return float64(rows[i].Tokens) / took(rows, i) }), blue, false}}},
		want{"Memory, MB", []curve{{"", of(func(i int) float64 { return rows[i].MemoryMB }), blue, false}}})
	var out []chart
	for _, w := range wants {
		svg, err := draws(func(p *plot.Plot) error { return addCurves(p, w.curves) }, "step")
		if err != nil {
			return nil, err
		}
		out = append(out, chart{w.title, svg})
	}
	if len(lengths) > 0 {
		svg, err := draws(func(p *plot.Plot) error { return addHistogram(p, lengths) }, "tokens")
		if err != nil {
			return nil, err
		}
		out = append(out, chart{"Texts by length", svg})
	}
	return out, nil
}

func addCurves(p *plot.Plot, curves []curve) error {
	for _, c := range curves {
		line, err := plotter.NewLine(c.at)
		if err != nil {
			return err
		}
		line.Color, line.Width = c.color, vg.Points(1.5)
		p.Add(line)
		thumbs := []plot.Thumbnailer{line}
		if c.dotted || len(c.at) == 1 {
			marks, err := plotter.NewScatter(c.at)
			if err != nil {
				return err
			}
			marks.GlyphStyle = draw.GlyphStyle{Color: c.color, Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
			p.Add(marks)
			thumbs = append(thumbs, marks)
		}
		if c.name != "" {
			p.Legend.Add(c.name, thumbs...)
		}
	}
	return nil
}

func addHistogram(p *plot.Plot, lengths []int) error {
	var values plotter.Values
	for _, n := range lengths {
		values = append(values, float64(n))
	}
	h, err := plotter.NewHist(values, 32)
	if err != nil {
		return err
	}
	h.FillColor, h.LineStyle.Width = pale, vg.Points(0.5)
	p.Add(h)
	p.Y.Min = 0
	return nil
}

// draws renders a plot as SVG that fits into a page.
func draws(add func(*plot.Plot) error, x string) (template.HTML, error) {
	p := plot.New()
	p.X.Label.Text = x
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{}, ticks{}
	p.Legend.Top, p.Legend.Padding = true, vg.Points(3)
	p.Legend.Left, p.Legend.XOffs = true, vg.Points(330) // on the right, with names that may run wider than here
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.Gray{0xe0}
	p.Add(grid)
	if err := add(p); err != nil {
		return "", err
	}
	const width, height = 460, 230
	canvas := vgsvg.New(vg.Points(width), vg.Points(height))
	const margin = 14 // for the last tick's label
	p.Draw(draw.Crop(draw.New(canvas), 0, -vg.Points(margin), 0, 0))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", err
	}
	svg := b.String() // from here on what stands before the element is not wanted inside a page
	return template.HTML(svg[strings.Index(svg, "<svg"):]), nil
}

// ticks are gonum's, with labels in as few digits as they need.
type ticks struct{}

func (ticks) Ticks(low, high float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range all {
		if t.Label != "" {
			all[i].Label = strconv.FormatFloat(t.Value, 'g', 4, 64)
		}
	}
	return all
}

// thinned averages neighbours, so that a curve has at most so many points.
func thinned(all plotter.XYs) plotter.XYs {
	per := (len(all) + points - 1) / points
	if per <= 1 {
		return all
	}
	var out plotter.XYs
	for i := 0; i < len(all); i += per {
		part := all[i:min(i+per, len(all))]
		var mean plotter.XY
		for _, xy := range part {
			mean.X += xy.X / float64(len(part))
			mean.Y += xy.Y / float64(len(part))
		}
		out = append(out, mean)
	}
	return out
}

// smoothed is the exponential moving average over about a twentieth of the curve.
func smoothed(all plotter.XYs) plotter.XYs {
	out := append(plotter.XYs{}, all...)
	weight := 1 / (1 + float64(len(all))/20)
	for i := 1; i < len(out); i++ {
		out[i].Y = out[i-1].Y + weight*(all[i].Y-out[i-1].Y)
	}
	return out
}
